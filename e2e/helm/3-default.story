= Helm's control planes, and a default that istioctl moves

# Two control planes by Helm, one of them without a name
$ helm install istio-base manifests/charts/base -n istio-system --create-namespace
...
Next:
  a control plane helm install istiod manifests/charts/istiod -n istio-system --wait
...

$ helm install istiod manifests/charts/istiod -n istio-system --set global.tag=0.1.0 --wait
$ helm install istiod-canary manifests/charts/istiod -n istio-system --set revision=canary --wait
...
Control plane canary (0.2.0) is installed in istio-system. No workload has moved to it.
...
  kubectl label namespace NAMESPACE istio-injection- istio.io/rev=canary --overwrite
...

# istioctl leads the default to the canary
$ istioctl tag set default --revision canary -y
...
Revision tag "default" created, referencing control plane revision "canary". [..]
...

$ kubectl get validatingwebhookconfiguration istiod-default-validator -o jsonpath='{.metadata.labels.istio\.io/rev} {.webhooks[0].clientConfig.service.name}'
canary istiod-canary

# Helm upgrades what is its own, and leaves the default where it was led
No conflict, and no --force-conflicts.
$ helm upgrade istio-base manifests/charts/base -n istio-system
...
STATUS: deployed
...

$ helm upgrade istiod manifests/charts/istiod -n istio-system --set global.tag=0.1.0 --wait
...
STATUS: deployed
...

$ helm upgrade istiod-canary manifests/charts/istiod -n istio-system --set revision=canary --wait
...
STATUS: deployed
...

$ kubectl get validatingwebhookconfiguration istiod-default-validator -o jsonpath='{.metadata.labels.istio\.io/rev} {.webhooks[0].clientConfig.service.name}'
canary istiod-canary

$ kubectl get mutatingwebhookconfiguration istio-sidecar-injector -o jsonpath='{.webhooks[0].namespaceSelector.matchLabels}'
{"istio.io/deactivated":"never-match"}

Back and forth, as often as somebody likes.
$ istioctl tag set default --revision default -y
$ helm upgrade istio-base manifests/charts/base -n istio-system
$ kubectl get validatingwebhookconfiguration istiod-default-validator -o jsonpath='{.metadata.labels.istio\.io/rev} {.webhooks[0].clientConfig.service.name}'
default istiod

# A tag is for a revision that is there
@ fails
$ helm install istio-tags manifests/charts/revisiontags -n istio-system --set revision=typo --set 'revisionTags={prod}'
Error: INSTALLATION FAILED: [..] revision "typo" is not there: namespace istio-system has no Service istiod-typo, [..]

# A tag that Helm made is Helm's to move
$ helm install istio-tags manifests/charts/revisiontags -n istio-system --set 'revisionTags={prod,stable}'
...
Tags that point at revision default: prod, stable
...

@ fails
$ istioctl tag set prod --revision canary --overwrite -y
Error: cannot modify tag: "prod" belongs to Helm release istio-tags -n istio-system, which would move it back. [..] move with: helm upgrade istio-tags manifests/charts/revisiontags -n istio-system --reuse-values --set revision=canary. [..]

$ helm upgrade istio-tags manifests/charts/revisiontags -n istio-system --reuse-values --set revision=canary
...
Tags that point at revision canary: prod, stable
...

$ istioctl tag list
TAG     REVISION NAMESPACES
default default
prod    canary
stable  canary
...

# Or it is taken over, and then the release lets go of it
$ istioctl tag set stable --revision default --overwrite --force
...
Revision tag "stable" created, referencing control plane revision "default". [..]
...
WARNING: "stable" is still asked for by Helm release istio-tags -n istio-system; take it out of the release, which leaves the tag alone: helm upgrade istio-tags manifests/charts/revisiontags -n istio-system --reuse-values --set-json 'revisionTags=["prod"]'

$ helm upgrade istio-tags manifests/charts/revisiontags -n istio-system --reuse-values --set-json 'revisionTags=["prod"]'
...
Tags that point at revision canary: prod
...

From now on it moves like any other.
$ istioctl tag undo stable
...
$ istioctl tag list
TAG     REVISION NAMESPACES
default default
prod    canary
stable  canary
...

# A default that istioctl made becomes Helm's
@ fails
$ helm install istio-default manifests/charts/revisiontags -n istio-system --set 'revisionTags={default}'
[..]invalid ownership metadata[..]

$ helm install istio-default manifests/charts/revisiontags -n istio-system --set 'revisionTags={default}' --take-ownership --force-conflicts
...
Tags that point at revision default: default
...

$ kubectl get mutatingwebhookconfiguration istio-revision-tag-default -o jsonpath='{.metadata.labels.app\.kubernetes\.io/managed-by} {.webhooks[0].clientConfig.service.name}'
Helm istiod

# All of that goes
$ istioctl tag remove stable -y
$ helm uninstall istio-default istio-tags istiod-canary istiod istio-base -n istio-system --wait
...

$ kubectl delete ns istio-system
...

$ istioctl uninstall --purge -y
...

# Control planes that were applied, and a validator of Helm's that outlives one of them
$ helm install istio-base manifests/charts/base -n istio-system --create-namespace
$ for revision in "" canary; do helm template istiod manifests/charts/istiod -n istio-system --set revision=$revision | kubectl apply -f -; done
$ kubectl rollout status deployment -n istio-system istiod istiod-canary --timeout=90s
...
deployment "istiod-canary" successfully rolled out

$ istioctl uninstall --revision default -y
...
The validator asks "canary" now.
...

Helm does not lead it back to who is gone.
$ helm upgrade istio-base manifests/charts/base -n istio-system
...
STATUS: deployed
...

$ kubectl get validatingwebhookconfiguration istiod-default-validator -o jsonpath='{.metadata.labels.istio\.io/rev} {.webhooks[0].clientConfig.service.name}'
canary istiod-canary

# Cleanup
$ helm uninstall istio-base -n istio-system
$ kubectl delete ns istio-system
...

$ istioctl uninstall --purge -y
...
