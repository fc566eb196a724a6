package objects

import "time"

// Timestamps are the fields of what is a row in Nova's database. Nova sets them.
type Timestamps struct {
	CreatedAt Field[time.Time] `nova:"created_at,null"`
	UpdatedAt Field[time.Time] `nova:"updated_at,null"`
}

// Persistent is Timestamps for rows that are deleted only by a mark.
type Persistent struct {
	Timestamps
	DeletedAt Field[time.Time] `nova:"deleted_at,null"`
	Deleted   Field[bool]      `nova:"deleted,default=false"`
}
