// Package local runs functions as processes of this machine: the provider
// that needs no container engine.
//
// A replica is one watchdog (fwatchdog) on a unix socket, with the function's
// command behind it. What a function sees is its declared environment, PATH,
// HOME (its working directory, kept until the function's next version) and
// TMPDIR (gone with the process): nothing else of the gateway's environment.
// The command's first word is looked up in the function's folder, then on
// PATH; other words that name files of the folder become their paths. It runs
// in its working directory, not in that folder: a script finds further files
// by "$(dirname "$0")", for example.
//
// # Files
//
// Everything that must survive is under DATA/local, DATA being the app's data
// directory:
//
//	lock                          held while an engine uses the directory
//	cgroups                       where control groups may have been made, on Linux, as long as some may be there
//	functions/NAME.NS.json        one deployment record each, replaced atomically
//	secrets/NAME.NS               values of secrets, in a folder for the owner alone, replaced atomically
//	work/NAME.NS/VERSION/SLOT/    working directories
//	tmp/REPLICA/                  temporary files of one process
//
// and sockets are in a short private directory, RUN/REPLICA/s. RUN is
// /run/faas-HASH for root, else faas-HASH in $XDG_RUNTIME_DIR or the system's
// temporary directory; HASH is of the data directory. The gateway makes each
// socket and hands it to the watchdog. When it is root, RUN/REPLICA is root's:
// no function can put anything else in the socket's place.
//
// # Secrets
//
// A function finds its secrets in RUN/REPLICA/secrets, which the variable
// secret_mount_path names: files of mode 0400 in a folder of mode 0500, of the
// function's user. With a mount namespace that is memory which nobody else sees
// and nobody writes, and it is shown at /var/openfaas/secrets, too: an empty
// folder of this machine that the first such function makes, and that stays, because
// removing it would take the mounts on it from other gateways' functions.
// A secret that is created or updated makes a further version of the functions
// that name it, which rolls. A function of the stack file that names
// one which doesn't exist waits for it.
//
// # The stack file
//
// An entry is applied when it differs from the one last applied under its
// name, so a later change through the API holds until the entry itself is
// edited; a function that was removed stays away until then, too. Deleting an
// entry removes the function that came from it. The file is read at each
// [Provider.Apply], that is at each reload of the configuration, and when it
// has changed.
//
// # Changes while functions run
//
// Unless [Provider].Watch is false, the stack file, its environment files and
// the functions' folders are looked at four times a second. What has changed,
// and is the same at the next look, is applied: a stack file as at a reload,
// except that one which can't be read is only reported; a folder by a new version
// of the same definition, which rolls.
//
// # Isolation
//
// What holds depends on the machine, is found out once at start and logged:
//
//   - root on Linux: own PID and mount namespaces per replica, and a user ID
//     per function (from 1900000000 on). The function's folder is bound read-only,
//     so that it may be in a folder which that user can't enter. A read-only root
//     filesystem leaves HOME and TMPDIR writable.
//   - root without leave for namespaces: the user ID only.
//   - root of a user namespace that lacks these user IDs, as in a rootless
//     container: own PID namespaces where permitted; functions run as that root.
//   - not root, Linux: own user and PID namespaces.
//   - otherwise: process groups.
//
// However the gateway ends, kill -9 included, its replicas end with it. A
// watchdog in a PID namespace is killed by the kernel and takes all of that
// along. Another one has the end of a pipe that closes with the gateway, and
// kills the process groups that it started, and on Linux whatever else descends
// from it. What escapes, because the watchdog itself was killed, is ended at
// the next start (Linux), known by the function's user if it has one of its
// own, and by its HOME or TMPDIR.
package local
