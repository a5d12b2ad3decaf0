/* What acceptors and the programs they hold say to each other: zygotes, and the children forked ahead from them.
 *
 * An acceptor has three SEQPACKET sockets to a zygote. On the first (STAGE_CONTROL there) it asks the zygote for forks;
 * on the second (STAGE_HAND), which all parked children share, the kernel gives each connection to exactly one of them;
 * on the third (STAGE_VOICE) they answer: a message that is read wakes those that wait for its sender's socket to look
 * at it, and of those that wait for a connection there may be thousands. A process that has taken a connection says so
 * before it does anything else. Both ends are of one machine and one build: plain structures.
 */
#ifndef FASTINETD_STAGE_H
#define FASTINETD_STAGE_H

#include <stdint.h>

#define STAGE_LIBRARY 60                  /* what the library is loaded from; it closes this */
#define STAGE_PINS STAGE_LIBRARY          /* then: what keeps pages from being shared, see warm.h */
#define STAGE_VOICE 61                    /* the zygote's descriptors of the third socket, */
#define STAGE_CONTROL 62                  /* the first */
#define STAGE_HAND 63                     /* and the second */
#define STAGE_VARIABLE "FASTINETD_STAGE"  /* in the zygote's environment: "main" or "first_io", and ":11", its guard */
#define STAGE_BIND "LD_BIND_NOW=fastinetd"  /* there as well: symbols are looked up in the zygote, not in each child */
#define STAGE_POINT_BITS 8                /* of the seq of READY */
#define STAGE_PLACES 12                   /* variables that tell of a connection, at most */
#define STAGE_ROOM 80                     /* bytes of each, NAME=value with its NUL, at most */
#define STAGE_VARIABLES_SIZE (STAGE_PLACES * STAGE_ROOM)  /* bytes of all of them */

/* Number `i` of an array that has a place for each of them: a constant, and one beyond the last does not compile. */
#define STAGE_PLACE(array, i) \
    (array)[(i) + 0 * sizeof(struct { _Static_assert((i) < STAGE_PLACES, "STAGE_PLACES are too few"); char unused; })]

enum stage_kind {
    /* to the zygote */
    STAGE_FORK = 1,      /* fork for the connection that comes with this */
    STAGE_PARK = 2,      /* fork a child that waits for its connection */
    /* to parked children */
    STAGE_TAKE = 3,      /* serve the connection that comes with this */
    STAGE_LEAVE = 4,     /* one child too many: end */
    /* from them */
    STAGE_READY = 5,     /* the zygote is held; seq: an enum stage_point, and from bit 8 on how many system calls it
                            made since main; value: the system call that held it, or -1 */
    STAGE_TOOK = 6,      /* sent by the child that serves connection seq; value: the seq it was parked with, or 0 */
    STAGE_PARKED = 7,    /* sent by a child that waits, where it will say TOOK */
    STAGE_FAILED = 8,    /* seq could not be forked for; value: errno */
    STAGE_REFUSED = 9    /* the program cannot be held; value: an enum stage_refusal */
};

enum stage_point {
    STAGE_AT_MAIN = 0,       /* before main, as was asked for */
    STAGE_AT_IO = 1,         /* at the first use of descriptor 0, 1 or 2 */
    STAGE_AT_OTHER = 2,      /* first_io: earlier, at a system call whose effect a fork would not copy */
    STAGE_NOT_FURTHER = 3    /* first_io was asked for, but cannot be had here: before main */
};

enum stage_refusal {
    STAGE_THREADS = 1,       /* it has more than one thread already */
    STAGE_FILES = 2          /* first_io: each child could not open its files again: too many, or no /proc */
};

/* A request is followed by the connection's variables, each "NAME=value" with its NUL (FORK and TAKE only). */
struct stage_request {
    uint32_t kind;
    uint32_t seq;
};

struct stage_message {
    struct stage_request request;
    char variables[STAGE_VARIABLES_SIZE];
};

struct stage_reply {
    uint32_t kind;
    uint32_t seq;
    int32_t value;
};

#endif
