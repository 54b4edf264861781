= A control plane goes, whatever is left of it

# Two control planes, and a workload on the first
$ istioctl install --set revision=a --set profile=minimal --skip-confirmation
...
✔ Installation complete
...

$ printf 'apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  profile: minimal\n  revision: b\n' >$SCRATCH/b.yaml; istioctl install -f $SCRATCH/b.yaml --skip-confirmation
...
✔ Installation complete
...

$ kubectl create ns test-ns && kubectl label ns test-ns istio.io/rev=a
$ kubectl apply -n test-ns -f samples/sleep/sleep.yaml
$ kubectl rollout status deployment -n test-ns --timeout=90s
...
deployment "sleep" successfully rolled out

# A revision that is not there
@ fails
$ istioctl uninstall --revision c -y
Error: could not find target revision "c"; revisions here: a, b

# The file that a revision was installed with
$ istioctl uninstall -f $SCRATCH/b.yaml --if-unused -y
...
These stay, for a: 15 custom resource definitions, ServiceAccount/istio-system/istio-reader-service-account, Secret/istio-system/istio-ca-secret, ConfigMap istio-ca-root-cert in [..] namespaces.
✔ Uninstall complete

$ kubectl get deployments -n istio-system
NAME READY UP-TO-DATE AVAILABLE AGE
istiod-a 1/1 1 1 [..]

# istiod is dead and half of its objects are gone
$ kubectl delete deployment,service -n istio-system istiod-a
...

Nobody answers for its proxies, but the pods that it injected are known.
@ fails
$ istioctl uninstall --revision a --if-unused -y
No istiod of revision a answers; its proxies are known by their pods.
There [..] still 1 prox[..] pointing to the control plane revision a
sleep-[..].test-ns
...
Error: the control plane is still used, and --if-unused was given: nothing was removed

$ istioctl uninstall --revision a -y
...
No control plane is left. These stay: 15 custom resource definitions, [..]
✔ Uninstall complete

Nothing refuses pods and objects any more.
$ kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations
No resources found

$ kubectl rollout restart deployment -n test-ns sleep
$ kubectl rollout status deployment -n test-ns --timeout=90s
...
deployment "sleep" successfully rolled out

# What Helm installed is Helm's; a purge takes even what it left behind
$ helm install istiod-h manifests/charts/istiod -n istio-system --set revision=h --wait
...
STATUS: deployed
...

@ fails
$ istioctl uninstall --revision h -y
Error: revision "h" was installed by Helm, which keeps a record of it: helm uninstall istiod-h -n istio-system

$ kubectl delete ns istio-system test-ns
...

$ istioctl uninstall --purge -y
All Istio resources will be pruned from the cluster
...
✔ Uninstall complete

$ kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations,crds,clusterroles,clusterrolebindings -l app.kubernetes.io/part-of=istio
No resources found
