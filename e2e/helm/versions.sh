#!/bin/sh
# One line per object that a chart rendered: what a write changes. Workloads have a status that others write, so for
# them it is the generation that counts.
list() { # list FIELD KINDS
    kubectl get "$2" -A -l app.kubernetes.io/part-of=istio \
        -o jsonpath="{range .items[*]}{.kind} {.metadata.name} {.metadata.$1}{\"\\n\"}{end}"
}
list resourceVersion crds,mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterroles,clusterrolebindings
list resourceVersion services,configmaps,serviceaccounts,roles,rolebindings
list generation deployments,horizontalpodautoscalers
