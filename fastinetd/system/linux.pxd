"""Declarations of Linux and of the compiler for the core: system calls, and the atomic operations.

Cython ships declarations for most of POSIX but none for epoll, sockets or pidfds; each is declared once, here.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

ctypedef uint8_t u8
ctypedef uint16_t u16
ctypedef uint32_t u32
ctypedef uint64_t u64
ctypedef int32_t i32
ctypedef int64_t i64


cdef extern from "system/descriptors.h" nogil:
    enum:
        FIRST_KEPT_DESCRIPTOR


cdef extern from "<errno.h>" nogil:
    int errno
    enum:
        EAGAIN, EBADMSG, ECHILD, ECONNABORTED, ECONNRESET, EINTR, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC
        EPROTO, ESRCH


cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        u64 u64
    struct epoll_event:
        u32 events
        epoll_data_t data
    enum:
        EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR, EPOLLRDHUP, EPOLLEXCLUSIVE
        EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLL_CLOEXEC
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)


cdef extern from "<sys/socket.h>" nogil:
    ctypedef u32 socklen_t
    struct sockaddr:
        u16 sa_family
    struct sockaddr_storage:
        u16 ss_family
    struct ucred:
        i32 pid
        u32 uid
        u32 gid
    enum:
        AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_NONBLOCK, SOL_SOCKET, SO_PEERCRED, SO_REUSEADDR
        MSG_NOSIGNAL, MSG_DONTWAIT, SHUT_RD, SHUT_WR, SHUT_RDWR
    int accept4(int fd, sockaddr *address, socklen_t *length, int flags)
    int getsockname(int fd, sockaddr *address, socklen_t *length)
    int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
    int shutdown(int fd, int how)
    ssize_t recv(int fd, void *buffer, size_t size, int flags)
    ssize_t send(int fd, const void *buffer, size_t size, int flags)
    ssize_t recvfrom(int fd, void *buffer, size_t size, int flags, sockaddr *address, socklen_t *length)
    ssize_t sendto(int fd, const void *buffer, size_t size, int flags, const sockaddr *address, socklen_t length)


cdef extern from "<netinet/in.h>" nogil:
    enum:
        INET6_ADDRSTRLEN
    struct in_addr:
        u32 s_addr
    struct sockaddr_in:
        u16 sin_port
        in_addr sin_addr
    struct in6_addr:
        u8 s6_addr[16]
    struct sockaddr_in6:
        u16 sin6_port
        in6_addr sin6_addr


cdef extern from "<arpa/inet.h>" nogil:
    u32 ntohl(u32)
    u32 htonl(u32)
    u16 ntohs(u16)
    const char *inet_ntop(int family, const void *source, char *text, socklen_t size)


cdef extern from "<sys/resource.h>" nogil:
    enum:
        RLIMIT_CPU
    u64 RLIM_INFINITY
    struct timeval:
        i64 tv_sec
        i64 tv_usec
    struct rusage:
        timeval ru_utime
        timeval ru_stime


cdef extern from "<sys/wait.h>" nogil:
    ctypedef struct siginfo_t:
        i32 si_pid
        i32 si_status
        i32 si_code
    enum:
        P_PID, P_PGID, P_ALL, WEXITED, WNOHANG, WNOWAIT, CLD_EXITED, CLD_KILLED, CLD_DUMPED


cdef extern from "<time.h>" nogil:
    struct timespec:
        i64 tv_sec
        i64 tv_nsec
    enum:
        CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_REALTIME_COARSE
    int clock_gettime(int clock, timespec *now)
    int nanosleep(const timespec *pause, timespec *left)


cdef extern from "<sys/mman.h>" nogil:
    enum:
        PROT_READ, PROT_WRITE, MAP_SHARED, MAP_NORESERVE
    void *mmap(void *address, size_t length, int protection, int flags, int fd, i64 offset)
    int munmap(void *address, size_t length)


cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    enum:
        POLLIN
    int poll(pollfd *fds, unsigned long count, int timeout)


cdef extern from "<sys/ioctl.h>" nogil:
    enum:
        FIONREAD
    int ioctl(int fd, unsigned long request, ...)


cdef extern from "<unistd.h>" nogil:
    i32 getppid()
    int close(int fd)
    ssize_t read(int fd, void *buffer, size_t size)
    ssize_t write(int fd, const void *buffer, size_t size)
    ssize_t pread(int fd, void *buffer, size_t size, i64 offset)


cdef extern from "<fcntl.h>" nogil:
    enum:
        F_DUPFD_CLOEXEC, O_RDONLY, O_RDWR, O_CLOEXEC
    int fcntl(int fd, int command, ...)
    int open(const char *path, int flags, ...)


cdef extern from *:
    """
    #include <stdint.h>
    #define NANOSECONDS_OF_A_SECOND ((uint64_t) 1000000000)
    """
    const u64 SECOND "NANOSECONDS_OF_A_SECOND"


cdef extern from *:
    """
    #include <stdint.h>
    /* The six atomic operations of the Board; all sequentially consistent: who has written a word and then finds
     * another one unchanged is seen by whoever changes that (core/gate.pxd, core/sources.pxd). */
    #define atomic_load(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
    #define atomic_store(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
    #define atomic_add(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)
    #define atomic_sub(p, v) __atomic_sub_fetch((p), (v), __ATOMIC_SEQ_CST)
    #define atomic_swap(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
    static inline int atomic_cas32(uint32_t *p, uint32_t old, uint32_t new_value) {
        return __atomic_compare_exchange_n(p, &old, new_value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    static inline int atomic_cas64(uint64_t *p, uint64_t old, uint64_t new_value) {
        return __atomic_compare_exchange_n(p, &old, new_value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    """
    u32 load32 "atomic_load"(u32 *p) noexcept nogil
    u64 load64 "atomic_load"(u64 *p) noexcept nogil
    i64 load_time "atomic_load"(i64 *p) noexcept nogil
    void store16 "atomic_store"(u16 *p, u16 value) noexcept nogil
    void store32 "atomic_store"(u32 *p, u32 value) noexcept nogil
    void store64 "atomic_store"(u64 *p, u64 value) noexcept nogil
    void store_time "atomic_store"(i64 *p, i64 value) noexcept nogil
    u32 add32 "atomic_add"(u32 *p, u32 value) noexcept nogil
    u32 sub32 "atomic_sub"(u32 *p, u32 value) noexcept nogil
    u64 sub64 "atomic_sub"(u64 *p, u64 value) noexcept nogil
    u32 swap32 "atomic_swap"(u32 *p, u32 value) noexcept nogil
    bint cas32 "atomic_cas32"(u32 *p, u32 old, u32 new) noexcept nogil
    bint cas64 "atomic_cas64"(u64 *p, u64 old, u64 new) noexcept nogil


cdef inline u64 now_monotonic() noexcept nogil:
    """CLOCK_MONOTONIC in nanoseconds."""
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <u64> t.tv_sec * SECOND + <u64> t.tv_nsec


cdef inline u64 now_real() noexcept nogil:
    """CLOCK_REALTIME in nanoseconds."""
    cdef timespec t
    clock_gettime(CLOCK_REALTIME, &t)
    return <u64> t.tv_sec * SECOND + <u64> t.tv_nsec
