= The other way out: back to the old control plane

# An older revision, a workload, and traffic
$ TRYSAIL_VERSION=0.1.0 istioctl install --set revision=1-22-1 --skip-confirmation
...
✔ Installation complete
...

$ kubectl create ns test-ns
$ kubectl label namespace test-ns istio-injection=enabled
$ kubectl apply -n test-ns -f samples/sleep/sleep.yaml -f samples/httpbin/httpbin.yaml -f samples/httpbin/httpbin-gateway.yaml
$ kubectl rollout status deployment -n test-ns --timeout=90s
...
deployment "sleep" successfully rolled out

@ traffic start

# The canary takes the gateway and the namespace
$ istioctl install --set revision=canary --skip-confirmation
...
✔ Installation complete
...

$ kubectl label namespace test-ns istio-injection- istio.io/rev=canary
$ kubectl rollout restart deployment -n test-ns
$ kubectl rollout status deployment -n test-ns --timeout=90s
...
deployment "sleep" successfully rolled out

@ until 60s
$ istioctl ps | awk -F '[[:space:]][[:space:]]+' '{print $8, $9}'
ISTIOD VERSION
istiod-canary-[..] 0.2.0
istiod-canary-[..] 0.2.0
istiod-canary-[..] 0.2.0

# Something looks wrong: everything goes back
$ kubectl label namespace test-ns istio.io/rev- istio-injection=enabled
$ kubectl rollout restart deployment -n test-ns
$ kubectl rollout status deployment -n test-ns --timeout=90s
...
deployment "sleep" successfully rolled out

The gateway is put back by installing the old revision again, before the canary goes.
$ TRYSAIL_VERSION=0.1.0 istioctl install --set revision=1-22-1 --skip-confirmation
...
✔ Installation complete
...

@ until 60s
$ istioctl ps | awk -F '[[:space:]][[:space:]]+' '{print $8, $9}'
ISTIOD VERSION
istiod-1-22-1-[..] 0.1.0
istiod-1-22-1-[..] 0.1.0
istiod-1-22-1-[..] 0.1.0

$ istioctl uninstall --revision=canary -y
...

@ until 60s
$ kubectl get pods -n istio-system -l app=istiod
NAME READY STATUS RESTARTS AGE
istiod-1-22-1-[..] 1/1 Running 0 [..]

$ kubectl get pods -n istio-system -l app=istio-ingressgateway
NAME READY STATUS RESTARTS AGE
istio-ingressgateway-[..] 1/1 Running 0 [..]

# Cleanup
@ traffic stop
$ kubectl delete ns istio-system test-ns
namespace "istio-system" deleted
namespace "test-ns" deleted

$ istioctl uninstall --purge -y
...

