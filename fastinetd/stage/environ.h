/* The program's environment: the library's variables out of it before main, a connection's variables into it.
 *
 * Theory. execve put all strings side by side at the top of the stack, where /proc/PID/environ shows them, and the
 * library's are the last: LD_PRELOAD, LD_BIND_NOW, the places, FASTINETD_STAGE. What they leave is one block of bytes,
 * `room`; messages are received right into it. The array of pointers keeps the free entries that they leave at its end.
 *
 * Rules of this file:
 *  - the array is written only while `environ` is still the array that the library's were taken from;
 *  - room is all zero whenever a process is forked for PARK, and holds one connection's variables otherwise.
 */
#ifndef FASTINETD_STAGE_ENVIRON_H
#define FASTINETD_STAGE_ENVIRON_H

#include "stage.h"
#include "guard.h"
#include "system.h"

extern char **environ __attribute__((weak));
extern char **__environ __attribute__((weak));

static char **array;                            /* of the program's variables, as ours were taken out of it */
static char spare[STAGE_VARIABLES_SIZE + 1];        /* in place of a room that is too small */
static char *room;
static size_t room_size;                        /* its last byte is never written */

static char **environment_now(void)
{
    return &__environ ? __environ : &environ ? environ : NULL;
}

/* Add bytes that are free: room grows if they follow it, or else begins anew with them. */
static void add_room(char *at, size_t size)
{
    clear_bytes(at, size);
    if (room + room_size == at)
        room_size += size;
    else {
        room = at;
        room_size = size;
    }
}

/* LD_PRELOAD without its first library. Returns whether there is something left. */
static int restore_preload(char *variable, size_t size)
{
    char *to = variable + sizeof "LD_PRELOAD=" - 1, *from = to;
    while (*from && *from != ':')
        from++;
    if (!*from) {
        add_room(variable, size);
        return 0;
    }
    while (*++from)
        *to++ = *from;
    *to++ = 0;
    add_room(to, variable + size - to);
    return 1;
}

static int is_ours_alone(const char *variable, size_t size)
{
    return starts_with(variable, STAGE_VARIABLE "=") || (*variable == '=' && size == STAGE_ROOM) ||
           (starts_with(variable, STAGE_BIND) && size == sizeof STAGE_BIND);
}

/* Take ours out. Returns the value of FASTINETD_STAGE's first letter: 'm', 'f', or 0 if this is not ours to hold. */
static char take_environment(void)
{
    char **from, **to, kind = 0;
    array = environment_now();
    for (from = array; from && *from; from++)
        if (starts_with(*from, STAGE_VARIABLE "=")) {
            kind = (*from)[sizeof STAGE_VARIABLE];
            note_guard(*from);
        }
    if (!kind)
        return 0;
    for (from = to = array; *from; from++) {
        size_t size = length_of(*from) + 1;
        if (starts_with(*from, "LD_PRELOAD=")) {
            if (!restore_preload(*from, size))
                continue;
        } else if (is_ours_alone(*from, size)) {
            add_room(*from, size);
            continue;
        }
        *to++ = *from;
    }
    while (to < from)
        *to++ = NULL;
    if (room_size < sizeof spare) {
        room = spare;
        room_size = sizeof spare;
    }
    return kind;
}

/* The first `size` bytes of room are a connection's variables: into the array, at its end. */
static void tell_connection(size_t size)
{
    char **at = array;
    size_t begin, places = STAGE_PLACES;
    if (environment_now() != array)
        return;
    while (*at)
        at++;
    for (begin = 0; begin < size && places; begin += length_of(room + begin) + 1, places--)
        *at++ = room + begin;
    *at = NULL;
}

#endif
