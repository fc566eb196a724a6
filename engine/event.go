package engine

import (
	"time"
)

// NetworkRef names a network.
type NetworkRef struct{ ID, Name, Driver string }

// Kind is what an event is about, by Docker's names.
type Kind string

const (
	KindContainer Kind = "container"
	KindImage     Kind = "image"
	KindNetwork   Kind = "network"
	KindVolume    Kind = "volume"
)

// Action is what happened to a container, image, volume or network.
type Action string

const (
	ActionCreate  Action = "create"
	ActionStart   Action = "start"
	ActionDie     Action = "die"     // Event.Exit tells how
	ActionStop    Action = "stop"    // after the die that Stop asked for
	ActionKill    Action = "kill"    // a signal was sent
	ActionOOM     Action = "oom"     // before the die
	ActionPause   Action = "pause"   //
	ActionUnpause Action = "unpause" //
	ActionRestart Action = "restart" // after the start
	ActionResize  Action = "resize"
	ActionRename  Action = "rename"
	ActionUpdate  Action = "update"
	ActionAttach  Action = "attach"
	ActionDestroy Action = "destroy"
	ActionArchive Action = "archive-path"   // files were copied out
	ActionExtract Action = "extract-to-dir" // files were copied in
	ActionExport  Action = "export"

	// Of containers, told by the front door that does them; see Tell.
	ActionCommit     Action = "commit"
	ActionDetach     Action = "detach"
	ActionTop        Action = "top"
	ActionExecDetach Action = "exec_detach"

	// Of images, all told by the front door.
	ActionDelete Action = "delete"
	ActionImport Action = "import"
	ActionLoad   Action = "load"
	ActionPull   Action = "pull"
	ActionPush   Action = "push"
	ActionSave   Action = "save"
	ActionTag    Action = "tag"
	ActionUntag  Action = "untag"

	// ActionPrune has a Kind and Reclaimed, and no object.
	ActionPrune Action = "prune"

	// Of volumes, besides create and destroy.
	ActionMount   Action = "mount"   // before the container's start
	ActionUnmount Action = "unmount" // after its die

	// Of networks, besides create and destroy.
	ActionConnect    Action = "connect"    // before the container's start
	ActionDisconnect Action = "disconnect" // around its die

	ActionExecCreate Action = "exec_create"
	ActionExecStart  Action = "exec_start"
	ActionExecDie    Action = "exec_die"
	// Action "health_status: " and the status: Container.Health.Status has changed.
)

// Event is one thing that happened.
type Event struct {
	// Seq grows by one with each event of one Engine; it begins again when the
	// agent does.
	Seq    uint64
	Time   time.Time
	Kind   Kind
	Action Action

	// ID and Name are the container's. Of an image they are what the event is about and its name, as the front
	// door says them.
	ID    string
	Name  string
	Owner Owner
	Image string
	// State is the container's after the event.
	State State
	// Exit is set for ActionDie and ActionExecDie.
	Exit Exit
	// Ran is for how long the process ran, set for ActionDie.
	Ran time.Duration
	// Signal is set for ActionKill.
	Signal int
	// ExecID is set for the actions of execs.
	ExecID string
	// Command is set with ExecID: the exec's, in one line.
	Command string
	Labels  map[string]string
	// Volume is the name of the volume it happened to. The other fields are then of
	// the container that mounted it, or empty.
	Volume string
	// Driver is that volume's plug-in, empty for "local".
	Driver string
	// Network is the network it happened to. Of the other fields only ID may be set, to that of the
	// container that came or went.
	Network NetworkRef
	// Mount is set for ActionMount and ActionUnmount.
	Mount Mount
	// Reclaimed is set for ActionPrune, in bytes.
	Reclaimed uint64
	// Details are what else is told of it, by Docker's names. Never changed after the event.
	Details map[string]string
}
