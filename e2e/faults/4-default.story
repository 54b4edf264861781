= The default revision goes, or leads nowhere

# The tag switches the unnamed control plane off
$ istioctl install --set profile=minimal --skip-confirmation
...
✔ Installation complete
...

$ istioctl install --set revision=canary --set profile=minimal --skip-confirmation
...
✔ Installation complete
...

$ kubectl create ns app && kubectl label ns app istio-injection=enabled
$ istioctl tag set default --revision canary
Tag "default" points at "default" now. New pods of these namespaces will go to "canary"; running ones when they restart:
app: nothing has to restart
Revision tag "default" created, referencing control plane revision "canary"[..]
...

Who follows by istio-injection is listed, too.
$ istioctl tag list
TAG REVISION NAMESPACES
...
default canary app
...

# Who removes the default is told what nobody does any more
$ echo n | istioctl tag remove default
Caution, found 1 namespace(s) still injected by tag "default": app
Without the tag "default" nobody injects namespaces labelled istio-injection=enabled[..]
The injector of the unnamed revision (istio-sidecar-injector) was switched off when the tag was made, and stays off.
To have it done, instead of removing the tag or afterwards: istioctl tag set default --revision default
Proceed with operation? [y/N] Aborting operation.

$ istioctl tag remove default -y
WARNING: found 1 namespace(s) still injected by tag "default": app
         Without the tag "default" nobody injects [..]
...
Revision tag default removed

@ fails
$ istioctl x precheck
...
Error [IST0101] (Namespace app) Referenced default revision not found: [..]
...

$ istioctl tag set default --revision default
...
$ istioctl x precheck
...
✔ No issues found when checking the cluster. Istio is safe to install or upgrade!
...

# A move by force says what it risks, and restarts nobody
$ istioctl tag set prod --revision canary
$ kubectl create ns shop && kubectl label ns shop istio.io/rev=prod
$ kubectl apply -n shop -f samples/sleep/sleep.yaml
$ kubectl rollout status deployment -n shop --timeout=90s
...
deployment "sleep" successfully rolled out

$ kubectl -n istio-system scale deployment istiod --replicas=0
$ kubectl -n istio-system wait --for=delete pod -l app=istiod,istio.io/rev=default --timeout=60s
@ fails
$ istioctl tag set prod --revision default --overwrite
[..]revision "default" has no ready istiod pod[..]

$ istioctl tag set prod --revision default --overwrite --force
Tag "prod" points at "canary" now. New pods of these namespaces will go to "default"; running ones stay as they are:
shop
deployment/sleep (1 pod)
Revision tag "prod" created, referencing control plane revision "default"[..]
...
WARNING: revision "default" has no ready istiod. Until it has a ready one, new pods that the tag "prod" selects are refused (failurePolicy Fail). Restart none of them. [..]

$ istioctl x injector list
NAMESPACE ISTIO-REVISION POD-REVISIONS
...
shop default canary: 1 NO ISTIOD: 1
...
No istiod of revision default is ready: until one is, new pods that it injects are refused. Restart none of them.
...

$ istioctl tag undo prod
...

# The unnamed revision is gone: the default leaves it, and says so
$ kubectl delete deployment,service -n istio-system istiod
$ istioctl install --set revision=canary --set profile=minimal --skip-confirmation
...
❗ The tag "default" points at revision "default", which is gone: it goes to "canary". Namespaces that follow it: [..]. What is left of "default" goes with: istioctl uninstall --revision default -y
...
❗ The tag "default" points at "canary" now.
...
✔ Installation complete

$ istioctl uninstall --revision default -y
...
✔ Uninstall complete

# Manifests that were applied, and installed by nobody, go by their revision
$ helm template istiod manifests/charts/istiod -n istio-system --set revision=applied | kubectl apply -f -
...
validatingwebhookconfiguration.admissionregistration.k8s.io/istio-validator-applied-istio-system created

$ kubectl rollout status deployment -n istio-system istiod-applied --timeout=90s
...
deployment "istiod-applied" successfully rolled out

$ echo n | istioctl uninstall --revision applied; echo $?
Revision applied was not installed by istioctl: kubectl-client-side-apply applied its manifests. Whoever applies them again brings it back.
The following resources will be pruned from the cluster:
MutatingWebhookConfiguration/istio-sidecar-injector-applied
...
Proceed? (y/N) Cancelled.
1

$ istioctl uninstall --revision applied -y
...
✔ Uninstall complete

$ names=$(kubectl get deployments,services,configmaps,serviceaccounts,roles,rolebindings -n istio-system -o name) && case $names in *applied*) echo "$names" ;; *) echo none ;; esac
none

$ names=$(kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings -o name) && case $names in *applied*) echo "$names" ;; *) echo none ;; esac
none

# Cleanup
$ istioctl uninstall --purge -y
...

$ kubectl delete ns istio-system app shop
...
