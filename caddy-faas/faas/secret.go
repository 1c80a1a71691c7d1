package faas

import (
	"fmt"
	"regexp"
	"slices"
)

// Secret names a secret of a namespace. Its value is never part of it.
type Secret struct {
	Name, Namespace string
}

// MaxSecret is how large a secret may be, in bytes: Docker's limit, which is below 500 KiB. None may be empty: Docker's, too.
const MaxSecret = 500<<10 - 1

// secretForm is what every engine takes as a secret's name, which is also its file's.
var secretForm = regexp.MustCompile(`^[a-zA-Z0-9]([-_.a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$`)

// Validate reports a name or namespace that no secret can have.
func (s Secret) Validate() error {
	if !secretForm.MatchString(s.Name) {
		return fmt.Errorf("secret name %q: want 1 to 63 letters, digits, -, _ or dots, with a letter or digit at both ends", s.Name)
	}
	if !nameForm.MatchString(s.Namespace) {
		return fmt.Errorf("namespace %q: want 1 to 63 letters, digits, - or _, with a letter or digit at both ends", s.Namespace)
	}
	return nil
}

// Check reports a name, namespace or value that no secret can have. It doesn't tell the value.
func (s Secret) Check(value []byte) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(value) == 0 || len(value) > MaxSecret {
		return fmt.Errorf("%w: value of %d bytes: want 1 to %d", ErrInvalid, len(value), MaxSecret)
	}
	return nil
}

// Uses tells whether the function names this secret.
func (f *Function) Uses(s Secret) bool {
	return f.Namespace == s.Namespace && slices.Contains(f.Secrets, s.Name)
}

// String is NAME.NAMESPACE.
func (s Secret) String() string { return s.Name + "." + s.Namespace }
