//go:build tools

// Package tools names the Cloud Storage server of the tests, so that go.mod and go.sum pin it.
package tools

import _ "github.com/fsouza/fake-gcs-server"
