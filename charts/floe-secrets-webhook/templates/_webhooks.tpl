{{/* Parts that the entries of the webhook configuration share. */}}

{{/* Address that the API server calls for the entry. Takes the root and the path. */}}
{{- define "floe.clientConfig" -}}
clientConfig:
{{- if .root.Values.webhook.url }}
  url: {{ printf "%s%s" (trimSuffix "/" .root.Values.webhook.url) .path | quote }}
{{- else }}
  service:
    namespace: {{ include "floe.namespace" .root | quote }}
    name: {{ include "floe.fullname" .root | quote }}
    port: {{ .root.Values.service.port | int }}
    path: {{ .path | quote }}
{{- end }}
{{- end }}

{{/* Selector of namespaces. Takes the root, and `NotIn` or `In` for entries that depend on whether defaults apply. */}}
{{- define "floe.namespaceSelector" -}}
{{- $v := .root.Values }}
namespaceSelector:
  matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values: {{ concat (list "kube-system" "kube-node-lease" (include "floe.namespace" .root)) $v.webhook.exemptNamespaces | uniq | toJson }}
    {{- if eq $v.rbac.scope "namespaces" }}
    - key: kubernetes.io/metadata.name
      operator: In
      values: {{ $v.rbac.namespaces | uniq | toJson }}
    {{- end }}
    {{- with .defaults }}
    - key: secrets.floe.dev/inject
      operator: {{ . | quote }}
      values: [enabled]
    {{- end }}
    {{- with $v.webhook.namespaceSelector.matchExpressions }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $v.webhook.namespaceSelector.matchLabels }}
  matchLabels:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- if and .defaults $v.webhook.objectSelector }}
objectSelector:
  {{- toYaml $v.webhook.objectSelector | nindent 2 }}
{{- end }}
{{- end }}

{{- define "floe.extraMatchConditions" -}}
{{- range .Values.webhook.extraMatchConditions }}
- name: {{ .name | quote }}
  expression: {{ .expression | quote }}
{{- end }}
{{- end }}

{{/* Fields at the end of every entry. Takes the root and the failure policy. */}}
{{- define "floe.manner" -}}
failurePolicy: {{ .failurePolicy | quote }}
matchPolicy: Equivalent
reinvocationPolicy: IfNeeded
sideEffects: NoneOnDryRun
timeoutSeconds: {{ .root.Values.webhook.timeoutSeconds | int }}
admissionReviewVersions: [v1]
{{- end }}

{{- define "floe.podRules" -}}
rules:
  - apiGroups: [""]
    apiVersions: [v1]
    resources: [pods]
    operations: [CREATE]
    scope: Namespaced
{{- end }}

{{- define "floe.workloadRules" -}}
rules:
  - apiGroups: [apps]
    apiVersions: [v1]
    resources: [deployments, statefulsets, daemonsets]
    operations: [CREATE, UPDATE]
    scope: Namespaced
  - apiGroups: [batch]
    apiVersions: [v1]
    resources: [cronjobs]
    operations: [CREATE, UPDATE]
    scope: Namespaced
  # The template of a Job is immutable.
  - apiGroups: [batch]
    apiVersions: [v1]
    resources: [jobs]
    operations: [CREATE]
    scope: Namespaced
  # For Argo Rollouts, if it is installed.
  - apiGroups: [argoproj.io]
    apiVersions: [v1alpha1]
    resources: [rollouts]
    operations: [CREATE, UPDATE]
    scope: Namespaced
{{- end }}
