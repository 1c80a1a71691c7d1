package faastest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Patience is how long a test waits for what must happen.
const Patience = 2 * time.Minute

// Eventually waits for a condition.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for late := time.Now().Add(Patience); !is(); <-time.After(10 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// WriteProgram writes a file that may be executed at once. Nothing is forked meanwhile: a child of this process
// would have the file open for writing for a moment, and starting it would fail with "text file busy".
func WriteProgram(path string, data []byte, mode os.FileMode) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, data, mode)
}

// Needs returns a program's path. A machine that lacks it skips the test, unless FAAS_TEST_REQUIRE names it.
func Needs(t testing.TB, program string) string {
	t.Helper()
	for _, name := range []string{program, "/usr/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Lacking(t, program, program)
	return ""
}

// Lacking skips a test for something that the machine lacks, unless FAAS_TEST_REQUIRE has its name.
func Lacking(t testing.TB, name string, why any) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("FAAS_TEST_REQUIRE"), ","), name) {
		t.Fatal("needs ", why)
	}
	t.Skip("needs ", why)
}
