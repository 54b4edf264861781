{{/* Labels of every object of this chart. Takes (dict "root" $ "name" N). */}}
{{- define "base.labels" -}}
release: {{ .root.Release.Name }}
{{ include "base.crdLabels" . }}
{{- end -}}

{{- define "base.crdLabels" -}}
app.kubernetes.io/name: {{ .name | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/part-of: "istio"
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | trunc 63 | trimSuffix "-" }}
{{- end -}}
