{{- define "semblance.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Leaves room for the suffixes of this chart's objects within 63 letters. */}}
{{- define "semblance.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "semblance.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "semblance.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "semblance.selectorLabels" -}}
app.kubernetes.io/name: {{ include "semblance.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "semblance.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "semblance.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "semblance.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "semblance.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "semblance.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "semblance.secretName" -}}
{{- .Values.existingSecret | default (include "semblance.fullname" .) }}
{{- end }}

{{/* The URL that the chart's own Secrets carry; refuses what the server could not use. */}}
{{- define "semblance.databaseUrl" -}}
{{- $url := required "Set database.url to postgres://user:password@host/database, or name a Secret in existingSecret, or set database.kind to sqlite." .Values.database.url }}
{{- if and $url (not (regexMatch "^postgres(ql)?://" $url)) }}
{{- fail "database.url must start with postgres:// (for the embedded database set database.kind to sqlite and leave database.url empty)." }}
{{- end }}
{{- $url }}
{{- end }}

{{- define "semblance.autoMigrate" -}}
{{- or (eq .Values.database.kind "sqlite") (eq .Values.migration.mode "start") }}
{{- end }}

{{/* A volume that one node holds cannot be held by the old and the new pod at once. */}}
{{- define "semblance.strategy" -}}
{{- if or .Values.persistence.enabled (and .Values.models.persistence.enabled (not (has .Values.models.persistence.accessMode (list "ReadWriteMany" "ReadOnlyMany")))) -}}
Recreate
{{- else -}}
RollingUpdate
{{- end }}
{{- end }}

{{/* Settings that cannot work together, each refused with a sentence. */}}
{{- define "semblance.validate" -}}
{{- $many := gt (int .Values.replicaCount) 1 }}
{{- if eq .Values.database.kind "sqlite" }}
{{- if $many }}
{{- fail "database.kind sqlite serves one replica: set replicaCount to 1, or use postgres." }}
{{- end }}
{{- if not .Values.persistence.enabled }}
{{- fail "database.kind sqlite keeps everything in the data folder: set persistence.enabled to true, or a restart loses it." }}
{{- end }}
{{- if .Values.database.url }}
{{- fail "database.kind sqlite takes no database.url: leave it empty, or set database.kind to postgres." }}
{{- end }}
{{- end }}
{{- if and $many .Values.persistence.enabled }}
{{- fail "persistence is for one replica: replicas that share Postgres need no data volume, so set persistence.enabled to false." }}
{{- end }}
{{- if and $many .Values.models.persistence.enabled (not (has .Values.models.persistence.accessMode (list "ReadWriteMany" "ReadOnlyMany"))) }}
{{- fail "several replicas share one models volume only as ReadWriteMany: set models.persistence.accessMode, or models.persistence.enabled to false." }}
{{- end }}
{{- end }}
