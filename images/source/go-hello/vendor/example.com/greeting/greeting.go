// Package greeting stands for a dependency that lies in the repository.
package greeting

func Of(what string) string {
	return "hello from " + what + "\n"
}
