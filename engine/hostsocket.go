package engine

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Sockets of published ports. They hold the port; what the packet filter leads to a container never reaches them. What does is
// for IPv6 addresses that it cannot lead: that is copied to the container and back, as dockerd's proxy does. The
// container sees the host as the client. While the agent is away nobody does it.

const (
	// proxyDial bounds the wait for a container to take a connection.
	proxyDial = 20 * time.Second
	// proxyIdle ends a UDP client's way to the container when nothing came back for so long, as dockerd's proxy does.
	proxyIdle = 90 * time.Second
	// proxyRetry is the pause after a connection that could not be taken.
	proxyRetry = 100 * time.Millisecond
	// proxyClients bounds the UDP clients of one port.
	proxyClients = 1024
)

// listen takes a port at p's address of the host.
func listen(p Port, port uint16) (hostSocket, uint16, error) {
	at, family := netip.AddrPortFrom(p.HostIP, port), "4"
	if p.HostIP.Is6() {
		family = "6" // alone: the same port of IPv4 is another one
	}
	if p.Proto == "udp" {
		c, err := net.ListenUDP("udp"+family, net.UDPAddrFromAddrPort(at))
		if err != nil {
			return nil, 0, err
		}
		return &datagrams{UDPConn: c}, c.LocalAddr().(*net.UDPAddr).AddrPort().Port(), nil
	}
	l, err := net.ListenTCP("tcp"+family, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, 0, err
	}
	return &listener{TCPListener: l, open: map[net.Conn]bool{}}, l.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}

// listener is a TCP port.
type listener struct {
	*net.TCPListener
	to      atomic.Pointer[netip.AddrPort]
	start   sync.Once
	running sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

// Lead implements hostSocket.
func (l *listener) Lead(to netip.AddrPort) {
	l.to.Store(&to)
	l.start.Do(func() {
		l.running.Go(func() {
			for {
				c, err := l.AcceptTCP()
				if errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EINVAL) { // Close, or its shutdown
					return
				}
				if err != nil { // no descriptors, no memory: the next one may do better
					time.Sleep(proxyRetry)
					continue
				}
				if l.hold(c) {
					l.running.Go(func() { l.proxy(c) })
				}
			}
		})
	})
}

// hold lets Close end a connection; false if it has done so.
func (l *listener) hold(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.Close()
		return false
	}
	l.open[c] = true
	return true
}

func (l *listener) drop(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
	c.Close()
}

// proxy copies a connection to the container and back.
func (l *listener) proxy(client *net.TCPConn) {
	defer l.drop(client)
	c, err := net.DialTimeout("tcp", l.to.Load().String(), proxyDial)
	if err != nil {
		_ = client.SetLinger(0) // refused, as far as it can still be said
		return
	}
	if !l.hold(c) {
		return
	}
	defer l.drop(c)
	server := c.(*net.TCPConn)
	var both sync.WaitGroup
	both.Go(func() { copyHalf(server, client) })
	copyHalf(client, server)
	both.Wait()
}

// copyHalf copies one direction, and its end.
func copyHalf(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
		return
	}
	_ = to.CloseWrite() // it is closed already, then
}

// Close gives the port back, even while a child that was forked meanwhile still has its descriptor, and ends its connections.
func (l *listener) Close() error {
	raw, err := l.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }) // it is closed anyway
	}
	err = errors.Join(err, l.TCPListener.Close())
	l.mu.Lock()
	l.closed = true
	for c := range l.open {
		c.Close()
	}
	l.mu.Unlock()
	l.running.Wait()
	return err
}

// datagrams is a UDP port.
type datagrams struct {
	*net.UDPConn
	to      atomic.Pointer[netip.AddrPort]
	start   sync.Once
	running sync.WaitGroup

	mu      sync.Mutex
	clients map[datagramClient]*net.UDPConn
	closed  bool
}

// datagramClient is who sent to which of the host's addresses: the answer must come from that one.
type datagramClient struct {
	from netip.AddrPort
	at   string // a control message, IPV6_PKTINFO
}

// Lead implements hostSocket.
func (d *datagrams) Lead(to netip.AddrPort) {
	d.to.Store(&to)
	d.mu.Lock()
	for _, c := range d.clients {
		c.Close() // they begin anew
	}
	d.mu.Unlock()
	d.start.Do(func() {
		raw, err := d.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) {
				// Without it answers come from the address that the kernel prefers; for ::1 that is the same.
				_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_RECVPKTINFO, 1)
			})
		}
		if err != nil {
			return // closed
		}
		d.mu.Lock()
		d.clients = map[datagramClient]*net.UDPConn{}
		d.mu.Unlock()
		d.running.Go(d.receive)
	})
}

func (d *datagrams) receive() {
	data, control := make([]byte, 65536), make([]byte, 256)
	for {
		n, m, _, from, err := d.ReadMsgUDPAddrPort(data, control)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // what the network said of an earlier answer
		}
		if c := d.client(datagramClient{from, string(control[:m])}); c != nil {
			_, _ = c.Write(data[:n]) // datagrams may be lost
		}
	}
}

// client is the way of a client's datagrams to the container, nil if there can be none.
func (d *datagrams) client(who datagramClient) *net.UDPConn {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.clients[who]; c != nil || d.closed || len(d.clients) >= proxyClients {
		return c
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(*d.to.Load()))
	if err != nil {
		return nil
	}
	d.clients[who] = c
	d.running.Go(func() {
		d.answer(who, c)
		d.mu.Lock()
		delete(d.clients, who)
		d.mu.Unlock()
		c.Close()
	})
	return c
}

func (d *datagrams) answer(who datagramClient, c *net.UDPConn) {
	data := make([]byte, 65536)
	for {
		if err := c.SetReadDeadline(time.Now().Add(proxyIdle)); err != nil {
			return
		}
		n, err := c.Read(data)
		if errors.Is(err, syscall.ECONNREFUSED) {
			continue // nobody listens yet
		}
		if err != nil {
			return
		}
		_, _, _ = d.WriteMsgUDPAddrPort(data[:n], []byte(who.at), who.from) // datagrams may be lost
	}
}

// Close implements hostSocket.
func (d *datagrams) Close() error {
	err := d.UDPConn.Close()
	d.mu.Lock()
	d.closed = true
	for _, c := range d.clients {
		c.Close()
	}
	d.mu.Unlock()
	d.running.Wait()
	return err
}
