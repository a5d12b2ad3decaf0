/* The library that holds a program before main (or at its first use of the client) and forks it for each connection.
 *
 * Theory. An acceptor starts the program once, with this library preloaded. The constructor below runs after those of
 * the program's libraries and before main; there the process stays, as the zygote, and waits for the acceptor's
 * requests (stage.h). For each it forks; the child takes the connection as 0, 1 and 2 and returns from where it was
 * held, so main begins (or the held system call is made) as after an execve. With snapshot = first_io the constructor
 * returns at once, and syscall user dispatch (dispatch.h) calls hold_program() later. The child is the acceptor's own
 * (CLONE_PARENT): the zygote waits for no process.
 *
 * Rules of this file:
 *  - no C library: it may be another one, and its state belongs to the program. What hold_program() needs of it, the
 *    thread id, is in thread.h;
 *  - descriptor 0 is closed while the process is held, so that a connection is received as 0;
 *  - a process that has not sent TOOK has not touched the connection; one that cannot send it ends;
 *  - the zygote keeps nothing of a connection: descriptor closed, variables cleared, before the next request is read;
 *  - a process that is not to serve never returns to the program: it ends in end_process();
 *  - few system calls: recvmsg, clone, close for each request; what a child does before main is in serve_connection().
 */
#include "stage.h"
#include "dispatch.h"
#include "environ.h"
#include "files.h"
#include "guard.h"
#include "seconds.h"
#include "system.h"
#include "thread.h"
#include "warm.h"

#define NO_SIGNAL 0x4000            /* MSG_NOSIGNAL */
#define NO_WAIT 0x40                /* MSG_DONTWAIT */
#define TOO_LONG 0x20               /* MSG_TRUNC */

struct message_piece {              /* struct iovec */
    void *at;
    size_t size;
};

struct message_header {             /* struct msghdr */
    void *name;
    int name_size;
    struct message_piece *pieces;
    size_t piece_count;
    void *control;
    size_t control_size;
    int flags;
};

struct descriptor_message {         /* struct cmsghdr with one descriptor */
    size_t size;
    int level, type;
    int descriptor;
} __attribute__((aligned(8)));

#define ONE_DESCRIPTOR (offsetof(struct descriptor_message, descriptor) + sizeof(int))

static void __attribute__((noreturn)) end_process(int status)
{
    for (;;)
        CALL(__NR_exit_group, status);
}

static int send_reply(int socket, uint32_t kind, uint32_t seq, int32_t value)
{
    struct stage_reply reply = {kind, seq, value};
    long result;
    do
        result = CALL(__NR_sendto, socket, &reply, sizeof reply, NO_SIGNAL, 0, 0);
    while (result == -EINTR);
    return result == sizeof reply;
}

static void __attribute__((noreturn)) refuse_to_hold(enum stage_refusal reason)
{
    send_reply(STAGE_CONTROL, STAGE_REFUSED, 0, reason);
    end_process(1);
}

/* The next request; its variables go to room. Returns their size, or -EAGAIN if there is none and flags say not to wait
 * (NO_WAIT), or ends with the acceptor. *descriptor: -1, or what came with it. */
static long receive_request(int socket, struct stage_request *request, int *descriptor, int flags)
{
    struct descriptor_message control;
    struct message_piece pieces[2] = {{request, sizeof *request}, {room, room_size - 1}};
    struct message_header header;
    long size;
    do {
        header = (struct message_header){NULL, 0, pieces, 2, &control, ONE_DESCRIPTOR, 0};
        size = CALL(__NR_recvmsg, socket, &header, flags);
    } while (size == -EINTR);
    if (size == -EAGAIN)
        return size;
    if (size == 0)
        end_process(0);
    if (size < (long)sizeof *request || header.flags & TOO_LONG)
        end_process(1);
    *descriptor = header.control_size >= ONE_DESCRIPTOR ? control.descriptor : -1;
    return size - (long)sizeof *request;
}

static void close_ours(void)
{
    int fd = pinned ? STAGE_PINS : STAGE_VOICE;
    if (CALL(__NR_close_range, fd, STAGE_HAND, 0) < 0)
        for (; fd <= STAGE_HAND; fd++)
            CALL(__NR_close, fd);
}

static void settle_child(void)
{
    CALL(__NR_setsid);
    settle_thread();
}

/* In the child that has received a connection as 0: say so on the socket, become its server. Who cannot say so is
 * still in the zygote's process group, where the acceptor finds it. */
static void serve_connection(int socket, uint32_t seq, uint32_t parked_as, size_t size)
{
    if (!send_reply(socket, STAGE_TOOK, seq, parked_as))
        end_process(1);
    if (!parked_as)
        settle_child();
    CALL(__NR_dup3, 0, 1, 0);
    CALL(__NR_dup3, 0, 2, 0);
    close_ours();
    tell_connection(size);
    show_process();
    reopen_files();
    move_seconds_on();
}

/* In the child that is to wait for its connection. Returns when it serves it. */
static void park_child(uint32_t seq)
{
    struct stage_request request;
    int descriptor;
    long size;

    if (!send_reply(STAGE_VOICE, STAGE_PARKED, seq, 0))    /* there, so that it comes before TOOK */
        end_process(1);
    settle_child();
    CALL(__NR_close, STAGE_CONTROL);
    if (pinned)
        CALL(__NR_close, STAGE_PINS);
    size = receive_request(STAGE_HAND, &request, &descriptor, NO_WAIT);
    if (size == -EAGAIN) {
        warm_up();
        size = receive_request(STAGE_HAND, &request, &descriptor, 0);
    }
    if (request.kind != STAGE_TAKE || descriptor != 0)
        end_process(request.kind != STAGE_LEAVE);
    pinned = 0;                                     /* this is not the zygote, and STAGE_PINS is closed */
    serve_connection(STAGE_VOICE, request.seq, seq, size);
}

/* Hold the program here, after so many system calls. Returns in every child that serves, never in the zygote. */
static void hold_program(enum stage_point point, int call, unsigned calls)
{
    struct stage_request request;
    int descriptor;
    long size, child;

    if (has_other_threads())
        refuse_to_hold(STAGE_THREADS);
    if (note_files(point == STAGE_AT_IO || point == STAGE_AT_OTHER) < 0)
        refuse_to_hold(STAGE_FILES);
    find_thread();
    make_ready();
    note_seconds();
    if (!hide_process())
        end_process(1);
    if (!send_reply(STAGE_CONTROL, STAGE_READY, point | calls << STAGE_POINT_BITS, call))
        end_process(1);
    CALL(__NR_close, 0);
    for (;;) {
        size = receive_request(STAGE_CONTROL, &request, &descriptor, 0);
        child = -EBADF;
        if (request.kind == STAGE_PARK ? descriptor < 0 : request.kind == STAGE_FORK && descriptor == 0)
            child = fork_child();
        else if (request.kind != STAGE_PARK && request.kind != STAGE_FORK)
            end_process(1);
        if (child == 0 && request.kind == STAGE_PARK) {
            park_child(request.seq);
            return;
        }
        if (child == 0) {
            serve_connection(STAGE_CONTROL, request.seq, 0, size);
            return;
        }
        if (descriptor >= 0)
            CALL(__NR_close, descriptor);
        clear_bytes(room, size);
        if (child < 0 && !send_reply(STAGE_CONTROL, STAGE_FAILED, request.seq, -child))
            end_process(1);
    }
}

__attribute__((constructor)) static void stage(void)
{
    char kind = take_environment();
    if (kind)
        CALL(__NR_close, STAGE_LIBRARY);
    switch (kind) {
    case 'm':
        hold_program(STAGE_AT_MAIN, -1, 0);
        break;
    case 'f':
        if (!start_dispatch(hold_program))
            hold_program(STAGE_NOT_FURTHER, -1, 0);
    }
}
