{{/*
The values every template reads: the chart's own, with the classic `pilot.*`
spelling of an IstioOperator merged over the flat one.
*/}}
{{- define "istiod.values" -}}
{{- mergeOverwrite (deepCopy .Values) (deepCopy (.Values.pilot | default dict)) | toYaml -}}
{{- end -}}

{{/* "-canary" for revision canary, nothing for the unnamed revision. */}}
{{- define "istiod.suffix" -}}
{{- if eq (toString .Values.revision) "default" }}{{ fail "revision \"default\" is the one without a name: leave the value `revision` empty" }}{{ end -}}
{{- with .Values.revision }}-{{ . }}{{ end -}}
{{- end -}}

{{/* The revision as labels and the environment spell it. */}}
{{- define "istiod.revision" -}}
{{- .Values.revision | default "default" -}}
{{- end -}}

{{/* Labels of every object of this chart. Takes (dict "root" $ "name" N). */}}
{{- define "istiod.labels" -}}
release: {{ .root.Release.Name }}
app.kubernetes.io/name: {{ .name | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/part-of: "istio"
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* Labels that tie an object to this revision and to the installer. */}}
{{- define "istiod.owner" -}}
istio.io/rev: {{ include "istiod.revision" . | quote }}
install.operator.istio.io/owning-resource: {{ .Values.ownerName | default "unknown" }}
operator.istio.io/component: "Pilot"
{{- end -}}

{{/*
Pods of the unnamed revision are told apart by `istio: pilot`, those of a named
one by its name, so that neither Service ever selects the other's pods.
*/}}
{{- define "istiod.selector" -}}
app: istiod
{{- if .Values.revision }}
istio.io/rev: {{ .Values.revision | quote }}
{{- else }}
istio: pilot
{{- end }}
{{- end -}}

{{/* The four ports of every Service in front of a control plane. */}}
{{- define "istiod.ports" -}}
- name: grpc-xds
  port: 15010
  protocol: TCP
- name: https-dns
  port: 15012
  protocol: TCP
- name: https-webhook
  port: 443
  targetPort: 15017
  protocol: TCP
- name: http-monitoring
  port: 15014
  protocol: TCP
{{- end -}}

{{/* Does this installation own a control plane, or use a remote one? */}}
{{- define "istiod.local" -}}
{{- $remote := (.Values.istiodRemote | default dict).enabled }}
{{- if not $remote }}true{{ end -}}
{{- end -}}

{{/*
One injection webhook. Takes root, prefix, namespace (expressions), object
(expressions), service, path. caBundle belongs to istiod at run time and is
rendered only when somebody supplies one.
*/}}
{{- define "istiod.webhook" -}}
{{- $remote := .root.Values.istiodRemote | default dict }}
- name: {{ .prefix }}sidecar-injector.istio.io
  clientConfig:
    {{- if $remote.injectionURL }}
    url: {{ $remote.injectionURL | quote }}
    {{- else }}
    service:
      name: {{ .service }}
      namespace: {{ .root.Release.Namespace }}
      path: {{ $remote.injectionPath | default "/inject" | quote }}
      port: 443
    {{- end }}
    {{- with $remote.injectionCABundle }}
    caBundle: {{ . | quote }}
    {{- end }}
  sideEffects: None
  rules:
  - operations: ["CREATE"]
    apiGroups: [""]
    apiVersions: ["v1"]
    resources: ["pods"]
  failurePolicy: Fail
  reinvocationPolicy: {{ (.root.Values.sidecarInjectorWebhook | default dict).reinvocationPolicy | default "Never" | quote }}
  admissionReviewVersions: ["v1"]
  {{- if .retired }}
  namespaceSelector:
    matchLabels:
      istio.io/deactivated: never-match
  objectSelector:
    matchLabels:
      istio.io/deactivated: never-match
  {{- else }}
  namespaceSelector:
    matchExpressions:
    {{- range .namespace }}
    - {{ . | toJson }}
    {{- end }}
  objectSelector:
    matchExpressions:
    {{- range .object }}
    - {{ . | toJson }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/*
The webhooks of one name (a revision or a tag). The selectors exclude each
other, so that at most one webhook of a consistent set matches a pod. Takes
root, name, service, legacy (serves the labels without a revision), auto, retired
(another one answers in its place: it matches nothing).
*/}}
{{- define "istiod.webhooks" -}}
{{- $noRev := dict "key" "istio.io/rev" "operator" "DoesNotExist" }}
{{- $isRev := dict "key" "istio.io/rev" "operator" "In" "values" (list .name) }}
{{- $noLegacy := dict "key" "istio-injection" "operator" "DoesNotExist" }}
{{- $isLegacy := dict "key" "istio-injection" "operator" "In" "values" (list "enabled") }}
{{- $notVetoed := dict "key" "sidecar.istio.io/inject" "operator" "NotIn" "values" (list "false") }}
{{- $asked := dict "key" "sidecar.istio.io/inject" "operator" "In" "values" (list "true") }}
{{- $unset := dict "key" "sidecar.istio.io/inject" "operator" "DoesNotExist" }}
{{- $system := dict "key" "kubernetes.io/metadata.name" "operator" "NotIn" "values" (list "kube-system" "kube-public" "kube-node-lease" "local-path-storage") }}
{{- $base := dict "root" .root "service" .service "retired" .retired }}
{{- $precedence := .precedence | default "namespace" }}
{{- if not (has $precedence (list "namespace" "pod")) }}
{{- fail (printf "values.sidecarInjectorWebhook.revisionLabelPrecedence: %q is neither namespace nor pod" $precedence) }}
{{- end }}
{{- $podFirst := eq $precedence "pod" }}
{{- /* Where the pod's label wins, what the namespace selects reaches only pods that select nothing. */}}
{{- $ofNamespace := ternary (list $notVetoed $noRev) (list $notVetoed) $podFirst }}
{{ include "istiod.webhook" (merge (dict "prefix" "rev.namespace." "namespace" (list $isRev $noLegacy) "object" $ofNamespace) $base) }}
{{ include "istiod.webhook" (merge (dict "prefix" "rev.object." "namespace" (ternary (list $noLegacy) (list $noRev $noLegacy) $podFirst) "object" (list $notVetoed $isRev)) $base) }}
{{- if $podFirst }}
{{ include "istiod.webhook" (merge (dict "prefix" "rev.object.enabled." "namespace" (list $isLegacy) "object" (list $notVetoed $isRev)) $base) }}
{{- end }}
{{- if .legacy }}
{{ include "istiod.webhook" (merge (dict "prefix" "namespace." "namespace" (list $isLegacy) "object" $ofNamespace) $base) }}
{{ include "istiod.webhook" (merge (dict "prefix" "object." "namespace" (list $noLegacy $noRev) "object" (list $asked $noRev)) $base) }}
{{- if .auto }}
{{ include "istiod.webhook" (merge (dict "prefix" "auto." "namespace" (list $noLegacy $noRev $system) "object" (list $unset $noRev)) $base) }}
{{- end }}
{{- end }}
{{- end -}}
