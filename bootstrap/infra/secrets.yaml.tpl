# Resolved by `op inject`; this file contains references only.
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
# The credentials of 1Password Connect.
apiVersion: v1
kind: Secret
metadata:
  name: onepassword-connect
  namespace: external-secrets
stringData:
  # The block scalar keeps the JSON document a string.
  1password-credentials.json: |
    op://k8s-ops/1password-connect-infra/credentials
  token: "op://k8s-ops/1password-connect-infra/token"
---
# The key that decrypts the SOPS files that Flux applies.
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
