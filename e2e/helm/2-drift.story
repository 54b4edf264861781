= What charts render stays as it is

# Everything by Helm
$ helm install istio-base manifests/charts/base -n istio-system --create-namespace

A validator that nobody is behind yet stays open, whatever is upgraded.
$ helm upgrade istio-base manifests/charts/base -n istio-system
$ kubectl get validatingwebhookconfiguration istiod-default-validator -o jsonpath='{.webhooks[0].failurePolicy}'
Ignore

$ helm install istiod-canary manifests/charts/istiod -n istio-system --set revision=canary --wait
$ helm install istio-tags manifests/charts/revisiontags -n istio-system --set revision=canary --set 'revisionTags={default,prod}'
$ helm install istio-ingressgateway manifests/charts/gateway -n istio-system --set revision=canary --wait
$ helm upgrade istio-base manifests/charts/base -n istio-system --set defaultRevision=canary
...
STATUS: deployed
...

istiod closes the validators and puts its certificate into all webhooks.
@ until 60s
$ kubectl get validatingwebhookconfigurations -o jsonpath='{range .items[*].webhooks[*]}{.clientConfig.service.name} {.failurePolicy} {.clientConfig.caBundle}{"\n"}{end}' | cut -c1-24
istiod-canary Fail LS0tL
istiod-canary Fail LS0tL

@ until 60s
$ kubectl get mutatingwebhookconfigurations -o jsonpath='{range .items[*].webhooks[*]}{.clientConfig.caBundle}{"\n"}{end}' | cut -c1-8 | sort | uniq -c
8 LS0tLS1C

# An upgrade with the same values writes nothing
Every write changes a resource version, so equal ones prove that there was none.
$ e2e/helm/versions.sh >$SCRATCH/before; wc -l <$SCRATCH/before
4[..]

$ helm upgrade istio-base manifests/charts/base -n istio-system --set defaultRevision=canary
$ helm upgrade istiod-canary manifests/charts/istiod -n istio-system --set revision=canary --wait
$ helm upgrade istio-tags manifests/charts/revisiontags -n istio-system --set revision=canary --set 'revisionTags={default,prod}'
$ helm upgrade istio-ingressgateway manifests/charts/gateway -n istio-system --set revision=canary --wait
...
STATUS: deployed
...

$ e2e/helm/versions.sh | diff $SCRATCH/before - && echo nothing was written
nothing was written

# The certificate authority is replaced: caBundle changes, and is nobody's but istiod's
$ kubectl get mutatingwebhookconfiguration istio-revision-tag-prod -o jsonpath='{.webhooks[0].clientConfig.caBundle}' >$SCRATCH/bundle
$ kubectl delete secret -n istio-system istio-ca-secret
$ kubectl delete pod -n istio-system -l app=istiod
@ until 60s
$ kubectl get mutatingwebhookconfiguration istio-revision-tag-prod -o jsonpath='{.webhooks[0].clientConfig.caBundle}' | cmp -s - $SCRATCH/bundle || echo another bundle
another bundle

$ kubectl rollout status deployment -n istio-system --timeout=60s
...
deployment "istiod-canary" successfully rolled out
...

@ until 60s
$ kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations -o jsonpath='{range .items[*].webhooks[*]}{.clientConfig.caBundle}{"\n"}{end}' | sort -u | wc -l
1

$ kubectl get validatingwebhookconfiguration istiod-default-validator -o jsonpath='{range .metadata.managedFields[*]}{.manager} {.operation}{"\n"}{end}' --show-managed-fields
helm Apply
istiod-canary Update

$ e2e/helm/versions.sh >$SCRATCH/before
$ helm upgrade istio-base manifests/charts/base -n istio-system --set defaultRevision=canary
...
STATUS: deployed
...

$ helm upgrade istiod-canary manifests/charts/istiod -n istio-system --set revision=canary --wait
...
STATUS: deployed
...

$ helm upgrade istio-tags manifests/charts/revisiontags -n istio-system --set revision=canary --set 'revisionTags={default,prod}'
...
STATUS: deployed
...

$ e2e/helm/versions.sh | diff $SCRATCH/before - && echo nothing was written
nothing was written

# Rendered by Helm, applied by kubectl
$ kubectl create ns rendered
$ helm template istiod manifests/charts/istiod -n rendered --set revision=next --set global.istioNamespace=rendered | kubectl apply -f -
...
deployment.apps/istiod-next created
...

$ helm template gateway manifests/charts/gateway -n rendered --set revision=next | kubectl apply --server-side -f -
...
deployment.apps/gateway serverside-applied
...

$ kubectl rollout status deployment -n rendered --timeout=60s
...
deployment "istiod-next" successfully rolled out

@ until 60s
$ kubectl get validatingwebhookconfiguration istio-validator-next-rendered -o jsonpath='{.webhooks[0].failurePolicy}'
Fail

An open validator is for the first moment only: later it is istiod's, and --is-upgrade leaves it alone.
$ helm template istiod manifests/charts/istiod -n rendered --set revision=next --set global.istioNamespace=rendered --is-upgrade | kubectl diff -f - && echo no difference
no difference

$ helm template gateway manifests/charts/gateway -n rendered --set revision=next --is-upgrade | kubectl diff --server-side -f - && echo no difference
no difference

# Cleanup
$ helm uninstall istio-tags istio-ingressgateway istiod-canary istio-base -n istio-system --wait
...

$ kubectl delete ns istio-system rendered
...

$ istioctl uninstall --purge -y
...
