//go:build tools

// Package tools names the image registry, so that go.mod and go.sum pin it.
package tools

import _ "github.com/distribution/distribution/v3/cmd/registry"
