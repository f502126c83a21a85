{{- /* CRDs from lines `GROUP/VERSION[,VERSION…] PLURAL KIND SCOPE [SHORTNAME…]`, with the stored version first. Schemas
are open: every object is accepted. */ -}}
{{- define "stand-in.crds" -}}
{{- range $line := splitList "\n" (trim .) }}
{{- $word := splitList " " $line }}
{{- $group := first (splitList "/" (first $word)) }}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: {{ index $word 1 }}.{{ $group }}
  annotations:
    helm.sh/resource-policy: keep
    {{- if hasSuffix ".k8s.io" $group }}
    api-approved.kubernetes.io: unapproved, a stand-in for rehearsals
    {{- end }}
spec:
  group: {{ $group }}
  scope: {{ index $word 3 }}
  names:
    kind: {{ index $word 2 }}
    listKind: {{ index $word 2 }}List
    plural: {{ index $word 1 }}
    singular: {{ lower (index $word 2) }}
    {{- with slice $word 4 }}
    shortNames: {{ toJson . }}
    {{- end }}
  versions:
    {{- range $index, $version := splitList "," (last (splitList "/" (first $word))) }}
    - name: {{ $version }}
      served: true
      storage: {{ eq $index 0 }}
      subresources:
        status: {}
      schema:
        openAPIV3Schema:
          type: object
          x-kubernetes-preserve-unknown-fields: true
    {{- end }}
{{- end }}
{{- end }}

{{- /* The version of the program: that of the chart without what Flux adds behind it. */ -}}
{{- define "stand-in.version" -}}
{{ .Chart.AppVersion | default (.Chart.Version | splitList "+" | first) }}
{{- end }}

{{- /* The labels of every object, from a dict with `name`, `root` and optionally `component`. */ -}}
{{- define "stand-in.labels" -}}
{{ include "stand-in.selector" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ include "stand-in.version" .root | quote }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "stand-in.selector" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- /* The originals' security context, which meets the Pod Security level `restricted`. */ -}}
{{- define "stand-in.restricted" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- /* A Prometheus ServiceMonitor, from a dict with `name`, `root` and `port`. */ -}}
{{- define "stand-in.monitor" -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "stand-in.labels" . | nindent 4 }}
spec:
  selector:
    matchLabels:
      {{- include "stand-in.selector" . | nindent 6 }}
  endpoints:
    - port: {{ .port }}
{{- end }}
