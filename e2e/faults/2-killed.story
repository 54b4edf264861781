= Processes are killed; traffic goes on

# A control plane, a workload, and traffic
$ istioctl install --set revision=1-22-1 --skip-confirmation
...
✔ Installation complete
...

$ kubectl create ns test-ns && kubectl label ns test-ns istio-injection=enabled
$ kubectl apply -n test-ns -f samples/sleep/sleep.yaml -f samples/httpbin/httpbin.yaml -f samples/httpbin/httpbin-gateway.yaml
$ kubectl rollout status deployment -n test-ns --timeout=90s
...
deployment "sleep" successfully rolled out

@ traffic start

# istiod is killed with kill -9
$ for process in $(pgrep -x pilot-discovery); do \
    grep -q "$DRYDOCK_DATA_DIR" /proc/$process/mountinfo && kill -9 $process; done; true

@ until 60s
$ kubectl get pods -n istio-system -l app=istiod
NAME READY STATUS RESTARTS AGE
istiod-1-22-1-[..] 1/1 Running 1[..]

Proxies come back by themselves.
@ until 60s
$ istioctl ps | awk -F '[[:space:]][[:space:]]+' '{print $3, $4, $5, $6, $8}'
CDS LDS EDS RDS ISTIOD
SYNCED SYNCED SYNCED SYNCED istiod-1-22-1-[..]
SYNCED SYNCED SYNCED SYNCED istiod-1-22-1-[..]
SYNCED SYNCED SYNCED SYNCED istiod-1-22-1-[..]

# The local cluster is killed with kill -9 and started again
$ kubectl create configmap -n test-ns kept --from-literal=a=b
configmap/kept created

$ kill -9 $(grep -o '"pid":[0-9]*' "$DRYDOCK_DATA_DIR/process.json" | cut -d: -f2)
$ drydock up
...

An acknowledged write is there, containers were not restarted, and traffic went on.
@ until 60s
$ kubectl get configmap -n test-ns kept -o jsonpath='{.data.a}'
b

@ until 60s
$ kubectl get pods -n test-ns
NAME READY STATUS RESTARTS AGE
httpbin-[..] 2/2 Running 0 [..]
sleep-[..] 2/2 Running 0 [..]

# Cleanup
@ traffic stop
$ istioctl uninstall --purge -y
...

$ kubectl delete ns istio-system test-ns
...

