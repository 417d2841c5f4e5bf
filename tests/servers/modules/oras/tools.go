//go:build tools

// Package tools names the client of registries, so that go.mod and go.sum pin it.
package tools

import _ "oras.land/oras/cmd/oras"
