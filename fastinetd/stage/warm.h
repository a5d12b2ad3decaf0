/* The pages that a child writes to are its own before it does.
 *
 * Theory. After a fork each page that is written to costs a fault, in the child and in the zygote, and the fault more
 * than the copy. Pages that the kernel holds for a device it copies while forking instead: those of a buffer registered
 * with an io_uring are such. So the zygote registers what every program writes to: the pages in use of its small
 * mappings (data, thread block, the end of the stack). The ring itself is never used, nor enabled; children close it.
 * Large mappings, such as an interpreter's memory, stay shared: most of their pages are never written to.
 * Where there is no io_uring, a parked child with nothing to do asks for its copies of the same mappings.
 *
 * Rules of this file: a saving and nothing else. Where it cannot be done the child takes its faults.
 */
#ifndef FASTINETD_STAGE_WARM_H
#define FASTINETD_STAGE_WARM_H

#include <linux/io_uring.h>

#include "stage.h"
#include "system.h"

#define WARM_WRITE 23                       /* MADV_POPULATE_WRITE, Linux 5.14 */
#define WARM_MOST (64UL << 10)              /* bytes of a mapping that is small */
#define WARM_RANGES 64
#define PAGE 4096UL
#define PAGE_PRESENT (1UL << 63)            /* in /proc/self/pagemap */
#define PAGE_OF_FILE (1UL << 61)

struct warm_range {                         /* struct iovec */
    unsigned long first, size;
};

static struct warm_range warm_ranges[WARM_RANGES], pins[WARM_RANGES];
static int warm_range_count, pin_count;
static int pinned;                          /* STAGE_PINS is open */

static unsigned long parse_hexadecimal(const char **text)
{
    unsigned long value = 0;
    for (;; (*text)++)
        if (**text >= '0' && **text <= '9')
            value = value << 4 | (unsigned long)(**text - '0');
        else if (**text >= 'a' && **text <= 'f')
            value = value << 4 | (unsigned long)(**text - 'a' + 10);
        else
            return value;
}

/* The pages of a mapping that are there. */
static void note_pins(unsigned long first, unsigned long last, long pagemap)
{
    uint64_t page;
    for (; first < last; first += PAGE) {
        if (CALL(__NR_pread64, pagemap, &page, sizeof page, first / PAGE * sizeof page) != sizeof page)
            return;
        if (!(page & PAGE_PRESENT) || page & PAGE_OF_FILE)
            continue;
        if (pin_count && pins[pin_count - 1].first + pins[pin_count - 1].size == first)
            pins[pin_count - 1].size += PAGE;
        else if (pin_count < WARM_RANGES)
            pins[pin_count++] = (struct warm_range){first, PAGE};
    }
}

/* One line of /proc/self/maps: "FIRST-LAST RIGHTS OFFSET DEVICE INODE NAME", lower-case hexadecimal. */
static void note_range(const char *line, long pagemap)
{
    unsigned long first = parse_hexadecimal(&line), last, stack = (unsigned long)&first;
    line++;
    last = parse_hexadecimal(&line);
    line++;
    if (!starts_with(line, "rw-p") || warm_range_count == WARM_RANGES)
        return;
    if (first <= stack && stack < last) {
        first = (stack & ~(PAGE - 1)) - PAGE > first ? (stack & ~(PAGE - 1)) - PAGE : first;
        last = first + 4 * PAGE < last ? first + 4 * PAGE : last;
    }
    if (last - first > WARM_MOST)
        return;
    warm_ranges[warm_range_count++] = (struct warm_range){first, last - first};
    note_pins(first, last, pagemap);
}

static void note_ranges(void)
{
    char text[512], line[80];
    size_t used = 0;
    long pagemap = CALL(__NR_openat, AT_FDCWD, "/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    long maps = CALL(__NR_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC), size, at;

    while (maps >= 0 && (size = CALL(__NR_read, maps, text, sizeof text)) > 0)
        for (at = 0; at < size; at++)
            if (text[at] == '\n') {
                line[used] = 0;
                note_range(line, pagemap);
                used = 0;
            } else if (used < sizeof line - 1)
                line[used++] = text[at];
    if (maps >= 0)
        CALL(__NR_close, maps);
    if (pagemap >= 0)
        CALL(__NR_close, pagemap);
}

/* In the zygote, before its first fork. Memory that may be held so is limited (RLIMIT_MEMLOCK), for all of a user. */
static void make_ready(void)
{
    static struct io_uring_params never_enabled = {.flags = IORING_SETUP_R_DISABLED}; /* there is no memset for it */
    long ring;
    note_ranges();
    if (!pin_count || CALL(__NR_fcntl, STAGE_PINS, F_GETFD) != -EBADF)
        return;
    ring = CALL(__NR_io_uring_setup, 1, &never_enabled);
    if (ring < 0)
        return;
    if (CALL(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, pins, pin_count) == 0)
        pinned = CALL(__NR_dup3, ring, STAGE_PINS, O_CLOEXEC) == STAGE_PINS;
    CALL(__NR_close, ring);
}

/* In a parked child. */
static void warm_up(void)
{
    int i;
    for (i = 0; i < warm_range_count && !pinned; i++)
        CALL(__NR_madvise, warm_ranges[i].first, warm_ranges[i].size, WARM_WRITE);
}

#endif
