# Filled in by `op inject`; nothing in here is a secret.
---
apiVersion: v1
kind: Namespace
metadata:
  name: external-secrets
---
apiVersion: v1
kind: Namespace
metadata:
  name: flux-system
---
# What 1Password Connect serves the vault with.
apiVersion: v1
kind: Secret
metadata:
  name: onepassword-connect
  namespace: external-secrets
stringData:
  # A JSON document is text only where YAML does not read it.
  1password-credentials.json: |
    op://k8s-ops/1password-connect-infra/credentials
  token: "op://k8s-ops/1password-connect-infra/token"
---
# Opens the SOPS files that Flux applies.
apiVersion: v1
kind: Secret
metadata:
  name: sops-age
  namespace: flux-system
stringData:
  age.agekey: op://k8s-ops/sops-age/private key
---
apiVersion: v1
kind: Secret
metadata:
  name: cluster-secrets
  namespace: flux-system
stringData:
  SECRET_CLOUDFLARE_TOKEN: "{{ op://k8s-ops/cloudflare/api token }}"
  SECRET_R2_CREDENTIALS: |
    access_key_id = op://k8s-ops/r2-infra/access key
    secret_access_key = op://k8s-ops/r2-infra/secret key
