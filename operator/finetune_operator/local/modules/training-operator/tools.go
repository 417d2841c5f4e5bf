//go:build tools

// Package tools names the operator that the benchmarks compare ours with, so that go.mod and go.sum pin it.
package tools

import _ "github.com/kubeflow/training-operator/cmd/training-operator.v1"
