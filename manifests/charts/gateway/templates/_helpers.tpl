{{- define "gateway.name" -}}
{{- .Values.name | default .Release.Name | default "istio-ingressgateway" -}}
{{- end -}}

{{/* Pods and Service find each other by `app` and `istio`; labels may override both. */}}
{{- define "gateway.selector" -}}
app: {{ (.Values.labels | default dict).app | default (include "gateway.name" .) }}
istio: {{ (.Values.labels | default dict).istio | default (include "gateway.name" . | trimPrefix "istio-") }}
{{- end -}}

{{- define "gateway.common" -}}
app.kubernetes.io/name: {{ include "gateway.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/part-of: "istio"
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* Extra labels given by the user, without the two that select. */}}
{{- define "gateway.extra" -}}
{{- with omit (.Values.labels | default dict) "app" "istio" }}
{{- toYaml . }}
{{- end }}
{{- end -}}

{{- define "gateway.labels" -}}
{{ include "gateway.common" . }}
{{ include "gateway.selector" . }}
{{- with include "gateway.extra" . }}
{{ . }}
{{- end }}
{{- with .Values.networkGateway }}
topology.istio.io/network: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "gateway.account" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "gateway.name" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}
