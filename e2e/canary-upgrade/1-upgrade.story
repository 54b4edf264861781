= The canary upgrade page, from the first command to the last

# An older revision, a workload, and traffic (short)
The older control plane is the same code under an older number, 0.1.0, until there is a previous release to take.
$ TRYSAIL_VERSION=0.1.0 istioctl install --set revision=1-22-1 --skip-confirmation
...
✔ Installation complete
...

$ kubectl create ns test-ns
namespace/test-ns created

$ kubectl label namespace test-ns istio-injection=enabled
namespace/test-ns labeled

$ kubectl apply -n test-ns -f samples/sleep/sleep.yaml
...
deployment.apps/sleep created

$ kubectl apply -n test-ns -f samples/httpbin/httpbin.yaml -f samples/httpbin/httpbin-gateway.yaml
...
deployment.apps/httpbin created
...

$ kubectl rollout status deployment -n test-ns --timeout=90s
...
deployment "sleep" successfully rolled out

@ until 20s
$ istioctl proxy-status
NAME CLUSTER CDS LDS EDS RDS ECDS ISTIOD VERSION
httpbin-[..].test-ns Kubernetes SYNCED SYNCED SYNCED SYNCED NOT SENT istiod-1-22-1-[..] 0.1.0
istio-ingressgateway-[..].istio-system Kubernetes SYNCED SYNCED SYNCED SYNCED NOT SENT istiod-1-22-1-[..] 0.1.0
sleep-[..].test-ns Kubernetes SYNCED SYNCED SYNCED SYNCED NOT SENT istiod-1-22-1-[..] 0.1.0

@ traffic start

# The canary beside it (short)
$ istioctl x precheck
✔ No issues found when checking the cluster. Istio is safe to install or upgrade!
  To get started, check out https://istio.io/latest/docs/setup/getting-started/

$ istioctl install --set revision=canary --skip-confirmation
...
✔ Installation complete
...

$ kubectl get pods -n istio-system -l app=istiod
NAME READY STATUS RESTARTS AGE
istiod-1-22-1-[..] 1/1 Running 0 [..]
istiod-canary-[..] 1/1 Running 0 [..]

$ kubectl get svc -n istio-system -l app=istiod
NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE
istiod-1-22-1 ClusterIP 10.[..] <none> 15010/TCP,15012/TCP,443/TCP,15014/TCP [..]
istiod-canary ClusterIP 10.[..] <none> 15010/TCP,15012/TCP,443/TCP,15014/TCP [..]

$ kubectl get mutatingwebhookconfigurations
NAME WEBHOOKS AGE
...
istio-sidecar-injector-1-22-1 2 [..]
istio-sidecar-injector-canary 2 [..]

The gateway was upgraded in place; existing sidecars were not touched.
@ until 60s
$ istioctl proxy-status | grep "$(kubectl -n istio-system get pod -l app=istio-ingressgateway -o jsonpath='{.items..metadata.name}')" | awk -F '[[:space:]][[:space:]]+' '{print $8}'
istiod-canary-[..]

$ istioctl proxy-status | grep "\.test-ns "
httpbin-[..].test-ns [..] istiod-1-22-1-[..] 0.1.0
sleep-[..].test-ns [..] istiod-1-22-1-[..] 0.1.0

# The namespace moves to the canary (short)
$ kubectl label namespace test-ns istio-injection- istio.io/rev=canary
namespace/test-ns modified

$ kubectl rollout restart deployment -n test-ns
deployment.apps/httpbin restarted
deployment.apps/sleep restarted

$ kubectl rollout status deployment -n test-ns --timeout=90s
...
deployment "sleep" successfully rolled out

@ until 60s
$ istioctl proxy-status | grep "\.test-ns "
httpbin-[..].test-ns Kubernetes SYNCED SYNCED SYNCED SYNCED NOT SENT istiod-canary-[..] 0.2.0
sleep-[..].test-ns Kubernetes SYNCED SYNCED SYNCED SYNCED NOT SENT istiod-canary-[..] 0.2.0

# Stable revision labels: tags
$ TRYSAIL_VERSION=0.1.0 istioctl install --revision=1-22-1 --set profile=minimal --skip-confirmation
...
✔ Installation complete
...

$ istioctl install --revision=1-23-1 --set profile=minimal --skip-confirmation
...
✔ Installation complete
...

$ istioctl tag set prod-stable --revision 1-22-1
Revision tag "prod-stable" created, referencing control plane revision "1-22-1". To enable injection using this
revision tag, use 'kubectl label namespace <NAMESPACE> istio.io/rev=prod-stable'
...

$ istioctl tag set prod-canary --revision 1-23-1
Revision tag "prod-canary" created, referencing control plane revision "1-23-1". To enable injection using this
revision tag, use 'kubectl label namespace <NAMESPACE> istio.io/rev=prod-canary'
...

$ kubectl create ns app-ns-1
$ kubectl label ns app-ns-1 istio.io/rev=prod-stable
$ kubectl create ns app-ns-2
$ kubectl label ns app-ns-2 istio.io/rev=prod-stable
$ kubectl create ns app-ns-3
$ kubectl label ns app-ns-3 istio.io/rev=prod-canary

$ kubectl apply -n app-ns-1 -f samples/sleep/sleep.yaml
$ kubectl apply -n app-ns-2 -f samples/sleep/sleep.yaml
$ kubectl apply -n app-ns-3 -f samples/sleep/sleep.yaml

@ until 60s
$ istioctl ps | grep -E "^NAME|app-ns"
NAME CLUSTER CDS LDS EDS RDS ECDS ISTIOD VERSION
sleep-[..].app-ns-[..] Kubernetes SYNCED SYNCED SYNCED SYNCED NOT SENT istiod-1-2[..]
sleep-[..].app-ns-[..] Kubernetes SYNCED SYNCED SYNCED SYNCED NOT SENT istiod-1-2[..]
sleep-[..].app-ns-[..] Kubernetes SYNCED SYNCED SYNCED SYNCED NOT SENT istiod-1-2[..]

$ istioctl ps | grep -E "app-ns-[12]" | awk -F '[[:space:]][[:space:]]+' '{print $8, $9}'
istiod-1-22-1-[..] 0.1.0
istiod-1-22-1-[..] 0.1.0

$ istioctl ps | grep "app-ns-3" | awk -F '[[:space:]][[:space:]]+' '{print $8, $9}'
istiod-1-23-1-[..] 0.2.0

$ istioctl tag list
TAG         REVISION NAMESPACES
...
default     1-22-1
prod-canary 1-23-1   app-ns-3
prod-stable 1-22-1   app-ns-1,app-ns-2
...

One command moves every namespace of the tag; nothing is relabelled.
$ istioctl tag set prod-stable --revision 1-23-1 --overwrite
...
Revision tag "prod-stable" [..] referencing control plane revision "1-23-1". To enable injection using this
...

$ kubectl rollout restart deployment -n app-ns-1
$ kubectl rollout restart deployment -n app-ns-2

@ until 60s
$ istioctl ps | grep "app-ns" | awk -F '[[:space:]][[:space:]]+' '{print $8, $9}'
istiod-1-23-1-[..] 0.2.0
istiod-1-23-1-[..] 0.2.0
istiod-1-23-1-[..] 0.2.0

# The default tag
$ istioctl tag set default --revision 1-23-1
...
Revision tag "default" [..] referencing control plane revision "1-23-1". To enable injection using this
...

All three selectors of the default revision now lead to it.
$ kubectl create ns by-injection && kubectl label ns by-injection istio-injection=enabled
$ kubectl create ns by-revision && kubectl label ns by-revision istio.io/rev=default
$ kubectl create ns by-pod
$ kubectl run -n by-injection probe --image=curlimages/curl --command -- /bin/sleep infinity
$ kubectl run -n by-revision probe --image=curlimages/curl --command -- /bin/sleep infinity
$ kubectl run -n by-pod probe --image=curlimages/curl --labels=sidecar.istio.io/inject=true --command -- /bin/sleep infinity
$ kubectl get pods -A --field-selector metadata.name=probe -o 'custom-columns=NAMESPACE:.metadata.namespace,REVISION:.metadata.annotations.istio\.io/rev'
NAMESPACE REVISION
by-injection 1-23-1
by-pod 1-23-1
by-revision 1-23-1

Leadership moves to the new default.
@ until 60s
$ kubectl get configmap istio-namespace-controller-election -n istio-system -o jsonpath='{.metadata.annotations.control-plane\.alpha\.kubernetes\.io/leader}' | tr ',' '\n' | grep holderKey
"holderKey":"1-23-1"[..]

So does validation.
@ until 60s
$ kubectl get validatingwebhookconfiguration istiod-default-validator -o jsonpath='{.webhooks[0].clientConfig.service.name} {.webhooks[0].failurePolicy}'
istiod-1-23-1 Fail

@ fails
$ printf 'apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bad, namespace: test-ns}\nspec: {hosts: [a], http: [{route: [{destination: {host: ""}}]}]}\n' | kubectl apply -f -
...
[..]admission webhook "validation.istio.io" denied the request[..]
...

$ kubectl delete ns by-injection by-revision by-pod
...

# The old control plane goes
$ istioctl uninstall --revision 1-22-1 -y
...

@ until 60s
$ kubectl get pods -n istio-system -l app=istiod
NAME READY STATUS RESTARTS AGE
istiod-1-23-1-[..] 1/1 Running 0 [..]
istiod-canary-[..] 1/1 Running 0 [..]

$ names=$(kubectl get mutatingwebhookconfigurations -o name) && case $names in *1-22-1*) echo "$names" ;; *) echo none ;; esac
none

# Cleanup
@ traffic stop
$ istioctl tag remove prod-stable
...
Revision tag prod-stable removed

$ istioctl tag remove prod-canary
...
Revision tag prod-canary removed

$ kubectl delete ns istio-system test-ns
namespace "istio-system" deleted
namespace "test-ns" deleted

@ fails
$ kubectl delete ns istio-system app-ns-1 app-ns-2 app-ns-3
namespace "app-ns-1" deleted
namespace "app-ns-2" deleted
namespace "app-ns-3" deleted
Error from server (NotFound): namespaces "istio-system" not found

What is left are cluster-wide objects; one command removes them too.
$ istioctl uninstall --purge -y
...

