= A gateway as a canary, in place, and back

# An old control plane with its gateway, a workload, and traffic
$ printf 'apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  components:\n    ingressGateways:\n    - name: istio-ingressgateway\n      enabled: true\n      k8s: {serviceAnnotations: {example.com/mine: kept}}\n' >$SCRATCH/old.yaml
$ TRYSAIL_VERSION=0.1.0 istioctl install --set revision=1-22-1 -f $SCRATCH/old.yaml --skip-confirmation
...
✔ Installation complete
...

$ kubectl create ns test-ns && kubectl label namespace test-ns istio-injection=enabled
$ kubectl apply -n test-ns -f samples/sleep/sleep.yaml -f samples/httpbin/httpbin.yaml -f samples/httpbin/httpbin-gateway.yaml
$ kubectl rollout status deployment -n test-ns --timeout=90s
...
deployment "sleep" successfully rolled out

@ traffic start

# A canary control plane that leaves the gateway alone, and a gateway of its own under the same Service
$ istioctl install --set revision=canary --set profile=minimal --skip-confirmation
...
✔ Installation complete
...

$ kubectl apply -f e2e/gateways/canary.yaml
deployment.apps/istio-ingressgateway-canary created

$ kubectl rollout status deployment -n istio-system istio-ingressgateway-canary --timeout=60s
...
deployment "istio-ingressgateway-canary" successfully rolled out

@ until 30s
$ istioctl proxy-status | grep gateway | awk -F '[[:space:]][[:space:]]+' '{print $1, $8, $9}'
istio-ingressgateway-[..].istio-system istiod-1-22-1-[..] 0.1.0
istio-ingressgateway-canary-[..].istio-system istiod-canary-[..] 0.2.0

$ kubectl get endpointslices -n istio-system -l kubernetes.io/service-name=istio-ingressgateway -o jsonpath='{range .items[*].endpoints[*]}{.conditions.ready}{"\n"}{end}'
true
true

The canary takes all of it for a while.
$ kubectl scale deployment -n istio-system istio-ingressgateway --replicas=0
$ kubectl wait --for=delete pod -n istio-system -l app=istio-ingressgateway,istio.io/rev=1-22-1 --timeout=60s
@ until 30s
$ istioctl proxy-status | grep gateway | awk -F '[[:space:]][[:space:]]+' '{print $1, $8, $9}'
istio-ingressgateway-canary-[..].istio-system istiod-canary-[..] 0.2.0

And it goes again.
$ kubectl scale deployment -n istio-system istio-ingressgateway --replicas=1
$ kubectl rollout status deployment -n istio-system istio-ingressgateway --timeout=60s
...
deployment "istio-ingressgateway" successfully rolled out

$ kubectl delete deployment -n istio-system istio-ingressgateway-canary
deployment.apps "istio-ingressgateway-canary" deleted[..]

# The canary takes the gateway in place
$ istioctl install --set revision=canary --skip-confirmation
...
✔ Installation complete
...

@ until 60s
$ istioctl proxy-status | grep gateway | awk -F '[[:space:]][[:space:]]+' '{print $1, $8, $9}'
istio-ingressgateway-[..].istio-system istiod-canary-[..] 0.2.0

It cannot go now, and says why.
@ fails
$ istioctl uninstall --revision canary --if-unused -y
...
The gateway istio-ingressgateway.istio-system runs on revision canary and stays: revision 1-22-1 has it too. Give it back with: istioctl gateway revert --revision 1-22-1 -y
...
Error: the control plane is still used, and --if-unused was given: nothing was removed

# The gateway is put back, and the canary goes
$ istioctl gateway revert --revision 1-22-1 --dry-run
...
✔ Dry run complete: istio-ingressgateway (on canary) would go to revision 1-22-1; nothing was changed

$ istioctl gateway revert --revision 1-22-1 -y
...
✔ istio-ingressgateway on revision 1-22-1

@ until 60s
$ istioctl proxy-status | grep gateway | awk -F '[[:space:]][[:space:]]+' '{print $1, $8, $9}'
istio-ingressgateway-[..].istio-system istiod-1-22-1-[..] 0.1.0

With the settings that it was installed with.
$ kubectl get service -n istio-system istio-ingressgateway -o jsonpath='{.metadata.annotations.example\.com/mine}'
kept

$ istioctl gateway revert --revision 1-22-1 -y
istio-ingressgateway runs on revision 1-22-1 already: nothing was changed.

$ istioctl uninstall --revision canary --if-unused -y
...
✔ Uninstall complete

$ kubectl get deployments -n istio-system
NAME READY UP-TO-DATE AVAILABLE AGE
istio-ingressgateway 1/1 1 1 [..]
istiod-1-22-1 1/1 1 1 [..]

# Cleanup
@ traffic stop
$ istioctl uninstall --purge -y
...

$ kubectl delete ns istio-system test-ns
...
