//go:build tools

// Package tools names kustomize, which Argo CD calls, so that go.mod and go.sum pin it.
package tools

import _ "sigs.k8s.io/kustomize/kustomize/v5"
