package engine

// QuotaKind names the mechanism that bounds what a container writes.
type QuotaKind string

const (
	QuotaNone    QuotaKind = ""        // no quota asked for
	QuotaBtrfs   QuotaKind = "btrfs"   // a subvolume with a qgroup limit
	QuotaProject QuotaKind = "project" // a project quota of ext4 or xfs
	QuotaLoop    QuotaKind = "loop"    // a sparse file with a file system of its own
)
