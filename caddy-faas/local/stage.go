package local

import (
	"encoding/json"
	"path/filepath"
)

// A stage tells the watchdog how to arrange its namespaces before it begins; the names are the watchdog's.
type stage struct {
	Mounts []mount `json:"mounts,omitempty"`
	Proc   bool    `json:"proc,omitempty"`
	Dir    string  `json:"dir"`
	UID    int     `json:"uid"`
	GID    int     `json:"gid"`
}

type mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// stage shows the process its folders under its runtime folder, which every
// user can reach. It returns what -stage takes, and the process's HOME and TMPDIR.
func (p *running) stage(folder, work string, who *owner) (text, home, tmp string) {
	home, tmp = filepath.Join(p.dir, "work"), filepath.Join(p.dir, "tmp")
	plan := stage{Proc: true, Dir: home, Mounts: []mount{{Source: work, Target: home}, {Source: p.tmp, Target: tmp}}}
	if folder != "" {
		plan.Mounts = append(plan.Mounts, mount{Source: folder, Target: filepath.Join(p.dir, "handler"), ReadOnly: true})
	}
	if who != nil {
		plan.UID, plan.GID = who.uid, who.gid
	}
	return plan.String(), home, tmp
}

// String is the stage as the watchdog takes it.
func (s stage) String() string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and numbers
	}
	return string(text)
}
