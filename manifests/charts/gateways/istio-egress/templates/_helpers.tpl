{{/*
The settings of this chart's gateway: values.gateways."istio-ingressgateway" in
the chart istio-ingress, "istio-egressgateway" in istio-egress. Both charts have
the same templates.
*/}}
{{- define "gw" -}}
{{- index .Values.gateways (printf "%sgateway" .Chart.Name) | toYaml -}}
{{- end -}}

{{- define "gw.labels" -}}
release: {{ .Release.Name }}
istio.io/rev: {{ .Values.revision | default "default" | quote }}
install.operator.istio.io/owning-resource: {{ .Values.ownerName | default "unknown" }}
operator.istio.io/component: {{ ternary "IngressGateways" "EgressGateways" (eq .Chart.Name "istio-ingress") | quote }}
{{ include "gw.common" . }}
{{- end -}}

{{- define "gw.common" -}}
app.kubernetes.io/name: {{ printf "%sgateway" .Chart.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/part-of: "istio"
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | trunc 63 | trimSuffix "-" }}
{{- end -}}
