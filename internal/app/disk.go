package app

import "syscall"

// diskSize returns the bytes of the file system that dir lies on, 0 where that cannot be told.
func diskSize(dir string) int64 {
	var s syscall.Statfs_t
	if syscall.Statfs(dir, &s) != nil {
		return 0
	}
	return int64(s.Blocks) * int64(s.Bsize)
}
