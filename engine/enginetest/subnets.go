package enginetest

import (
	"net/netip"
	"sync/atomic"
)

// engines counts those that got subnets.
var engines atomic.Uint32

// Subnets are four of Docker's default subnets that no other engine that was opened a moment ago has: two
// that look for a free one in the same instant would find the same.
func Subnets() (list []netip.Prefix) {
	first := engines.Add(1) % 7 * 4
	for i := first; i < first+4; i++ {
		if i < 14 {
			list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(17 + i), 0, 0}), 16))
		} else {
			list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i-13) * 16, 0}), 20))
		}
	}
	return list
}
