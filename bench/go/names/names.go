// Package names has what the model server and the load generator agree on: how models are called.
package names

import "fmt"

// Model is the name of the model with this number.
func Model(number int) string { return fmt.Sprintf("model-%05d", number) }
