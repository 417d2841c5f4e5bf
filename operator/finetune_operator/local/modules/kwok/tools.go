//go:build tools

// Package tools names the simulated nodes of the benchmarks, so that go.mod and go.sum pin them.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
