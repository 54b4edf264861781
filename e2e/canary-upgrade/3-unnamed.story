= The old control plane has no name

# An unnamed control plane, and the canary beside it
$ TRYSAIL_VERSION=0.1.0 istioctl install --skip-confirmation
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

$ istioctl install --set revision=canary
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

# It is removed by the profile it was installed with
$ istioctl uninstall -f manifests/profiles/default.yaml -y
...

@ until 60s
$ kubectl get pods -n istio-system -l app=istiod
NAME READY STATUS RESTARTS AGE
istiod-canary-[..] 1/1 Running 0 [..]

$ kubectl get pods -n istio-system -l app=istio-ingressgateway
NAME READY STATUS RESTARTS AGE
istio-ingressgateway-[..] 1/1 Running 0 [..]

$ kubectl get mutatingwebhookconfigurations
NAME WEBHOOKS AGE
...
istio-sidecar-injector-canary 2 [..]

# Cleanup
@ traffic stop
$ kubectl delete ns istio-system test-ns
namespace "istio-system" deleted
namespace "test-ns" deleted

$ istioctl uninstall --purge -y
...
