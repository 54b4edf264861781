= A canary upgrade by Helm, with the gateway as a canary too

# An older control plane, its gateway, a workload, and traffic
$ helm install istio-base manifests/charts/base -n istio-system --create-namespace
...
STATUS: deployed
...

$ helm install istiod manifests/charts/istiod -n istio-system --set global.tag=0.1.0 --wait
...
STATUS: deployed
...

$ helm install istio-ingressgateway manifests/charts/gateway -n istio-system --wait
...
STATUS: deployed
...

$ kubectl create ns test-ns && kubectl label namespace test-ns istio-injection=enabled
$ kubectl apply -n test-ns -f samples/sleep/sleep.yaml -f samples/httpbin/httpbin.yaml -f samples/httpbin/httpbin-gateway.yaml
$ kubectl rollout status deployment -n test-ns --timeout=90s
...
deployment "sleep" successfully rolled out

@ traffic start

# A second revision beside it
$ helm upgrade istio-base manifests/charts/base -n istio-system
...
STATUS: deployed
...

$ helm install istiod-canary manifests/charts/istiod -n istio-system --set revision=canary --wait
...
STATUS: deployed
...

$ kubectl get pods -l app=istiod -L istio.io/rev -n istio-system
NAME READY STATUS RESTARTS AGE REV
istiod-[..] 1/1 Running 0 [..] default
istiod-canary-[..] 1/1 Running 0 [..] canary

# A gateway of the new revision under the same Service
The labels that select are those of the first gateway; the second brings no Service of its own.
$ helm install istio-ingressgateway-canary manifests/charts/gateway -n istio-system --wait \
    --set revision=canary --set service.type=None --set autoscaling.enabled=false \
    --set labels.app=istio-ingressgateway --set labels.istio=ingressgateway
...
STATUS: deployed
...

Both serve; each is known to its own control plane.
@ until 30s
$ istioctl proxy-status | grep gateway | awk -F '[[:space:]][[:space:]]+' '{print $1, $8, $9}'
istio-ingressgateway-[..].istio-system istiod-[..] 0.1.0
istio-ingressgateway-canary-[..].istio-system istiod-canary-[..] 0.2.0

$ kubectl get endpointslices -n istio-system -l kubernetes.io/service-name=istio-ingressgateway -o jsonpath='{range .items[*].endpoints[*]}{.conditions.ready}{"\n"}{end}'
true
true

# The namespace moves, by a tag
$ helm template istiod manifests/charts/istiod -s templates/revision-tags.yaml --set revisionTags="{prod-stable}" --set revision=canary -n istio-system | kubectl apply -f -
service/istiod-revision-tag-prod-stable created
mutatingwebhookconfiguration.admissionregistration.k8s.io/istio-revision-tag-prod-stable created

$ kubectl label namespace test-ns istio-injection- istio.io/rev=prod-stable
namespace/test-ns modified

@ until 20s
$ kubectl get mutatingwebhookconfiguration istio-revision-tag-prod-stable -o jsonpath='{.webhooks[0].clientConfig.caBundle}' | cut -c1-8
LS0tLS1C

$ kubectl rollout restart deployment -n test-ns
$ kubectl rollout status deployment -n test-ns --timeout=90s
...
deployment "sleep" successfully rolled out

@ until 30s
$ istioctl proxy-status | grep "\.test-ns " | awk -F '[[:space:]][[:space:]]+' '{print $1, $8, $9}'
httpbin-[..].test-ns istiod-canary-[..] 0.2.0
sleep-[..].test-ns istiod-canary-[..] 0.2.0

# The gateway moves too; its canary has done its work
$ helm upgrade istio-ingressgateway manifests/charts/gateway -n istio-system --set revision=canary --wait
...
STATUS: deployed
...

$ helm uninstall istio-ingressgateway-canary -n istio-system --wait
release "istio-ingressgateway-canary" uninstalled

@ until 30s
$ istioctl proxy-status | grep gateway | awk -F '[[:space:]][[:space:]]+' '{print $1, $8, $9}'
istio-ingressgateway-[..].istio-system istiod-canary-[..] 0.2.0

# The default is led to the new control plane, and the old one goes
$ helm upgrade istio-base manifests/charts/base -n istio-system --set defaultRevision=canary
...
STATUS: deployed
...

$ helm uninstall istiod -n istio-system --wait
release "istiod" uninstalled

$ helm install istio-tags manifests/charts/revisiontags -n istio-system --set revision=canary --set 'revisionTags={default}'
...
STATUS: deployed
...

$ istioctl tag list
TAG         REVISION NAMESPACES
...
default     canary
prod-stable canary   test-ns
...

@ until 60s
$ kubectl get validatingwebhookconfiguration istiod-default-validator -o jsonpath='{.webhooks[0].clientConfig.service.name} {.webhooks[0].failurePolicy}'
istiod-canary Fail

Nothing of the old one is left.
$ kubectl get deployments,services,configmaps,mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles -A -l app.kubernetes.io/instance=istiod,istio.io/rev=default
No resources found

# Cleanup
@ traffic stop
$ helm uninstall istio-tags istio-ingressgateway istiod-canary istio-base -n istio-system --wait
...

$ kubectl delete ns istio-system test-ns
...

$ istioctl uninstall --purge -y
...
