= Mistakes are told, and nothing is lost

# A control plane
$ istioctl install --set revision=1-22-1 --set profile=minimal --skip-confirmation
...
✔ Installation complete
...

# Tags and revisions that cannot be
@ fails
$ istioctl tag set prod --revision absent
...
[..]"absent"[..]
...

@ fails
$ istioctl install --set revision=Not.A.Label --set profile=minimal --skip-confirmation
...
[..]Not.A.Label[..]
...

@ fails
$ istioctl tag set Not_A_Label --revision 1-22-1
...
[..]Not_A_Label[..]
...

A revision is not called like a tag: both would inject.
$ istioctl tag set taken --revision 1-22-1
$ for dry in "" --dry-run; do istioctl install --set revision=taken --set profile=minimal --skip-confirmation $dry; echo $?; done
✘ Installation refused; nothing was changed
Error: failed to install manifests: revision "taken" has the name of a tag, which points at revision "1-22-1"[..]
1
✘ Dry run failed: this could not be installed; nothing was changed
Error: failed to install manifests: revision "taken" has the name of a tag, which points at revision "1-22-1"[..]
1

$ istioctl tag remove taken -y
Revision tag taken removed

A revision whose istiod is not ready is refused as a tag's target.
$ kubectl -n istio-system scale deployment istiod-1-22-1 --replicas=0
$ kubectl -n istio-system wait --for=delete pod -l app=istiod --timeout=60s
@ fails
$ istioctl tag set prod --revision 1-22-1
...
[..]1-22-1[..]ready[..]
...

$ kubectl -n istio-system scale deployment istiod-1-22-1 --replicas=1
$ kubectl -n istio-system rollout status deployment istiod-1-22-1 --timeout=60s
...
deployment "istiod-1-22-1" successfully rolled out

@ until 30s
$ istioctl tag set prod --revision 1-22-1
Revision tag "prod" created, referencing control plane revision "1-22-1". To enable injection using this
...

# Manifests that cannot be
@ fails
$ printf 'apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  profil: minimal\n' > $SCRATCH/unknown.yaml; istioctl install -f $SCRATCH/unknown.yaml --skip-confirmation
...
[..]profil[..]
...

@ fails
$ printf 'apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  values:\n    pilot: yes please\n' > $SCRATCH/type.yaml; istioctl install -f $SCRATCH/type.yaml --skip-confirmation
...
[..]pilot[..]
...

@ fails
$ { printf 'apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  profile: "'; head -c 10000000 /dev/zero | tr '\0' x; printf '"\n'; } > $SCRATCH/large.yaml; istioctl install -f $SCRATCH/large.yaml --skip-confirmation
[..]large.yaml[..]
...

@ fails
$ printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndatum: {}\n' | kubectl apply --validate=strict -f -
[..]unknown field "datum"[..]
...

The one installed control plane is as it was.
$ kubectl get pods -n istio-system -l app=istiod
NAME READY STATUS RESTARTS AGE
istiod-1-22-1-[..] 1/1 Running 0 [..]

# A dead API server
@ fails
$ kubectl config view --raw | sed 's#server: .*#server: https://127.0.0.1:1#' > $SCRATCH/dead.yaml; istioctl --kubeconfig $SCRATCH/dead.yaml ps
[..]127.0.0.1:1[..]
...

# Configuration that a proxy rejects: the last good one stays, and ps shows it
$ kubectl create ns test-ns && kubectl label ns test-ns istio.io/rev=prod
$ kubectl apply -n test-ns -f samples/sleep/sleep.yaml -f samples/httpbin/httpbin.yaml
$ kubectl rollout status deployment -n test-ns --timeout=90s
...
deployment "sleep" successfully rolled out

$ printf 'apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: too-large, namespace: test-ns}\nspec: {host: httpbin, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x, minimumRingSize: 9000000}}}}\n' | kubectl apply -f -
Warning: [..]minimumRingSize: is deprecated, use ringHash instead
destinationrule.networking.istio.io/too-large created

@ until 30s
$ istioctl ps | grep '^sleep' | awk -F '[[:space:]][[:space:]]+' '{print $3}'
...
ERROR

$ kubectl exec -n test-ns deploy/sleep -c sleep -- curl -s -o /dev/null -w '%{http_code}\n' http://httpbin:8000/status/200
200

$ kubectl delete destinationrule -n test-ns too-large
destinationrule.networking.istio.io "too-large" deleted[..]

@ until 30s
$ istioctl ps | grep '^sleep' | awk -F '[[:space:]][[:space:]]+' '{print $3}'
SYNCED

# Cleanup
$ istioctl uninstall --purge -y
...

$ kubectl delete ns istio-system test-ns
...

