package bus

import "sync"

// buffers are byte slices that are used again. Who puts one there has no use for it any more, nor has anybody who was given it.
type buffers struct{ free sync.Pool }

// get returns an empty slice with room for size bytes.
func (b *buffers) get(size int) []byte {
	if spare, _ := b.free.Get().(*[]byte); spare != nil && cap(*spare) >= size {
		return (*spare)[:0]
	}
	return make([]byte, 0, size)
}

func (b *buffers) put(spare []byte) {
	if cap(spare) <= 2*maxFrameBytes { // one huge webhook should not hold its memory for long
		b.free.Put(&spare)
	}
}
