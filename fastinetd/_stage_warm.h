/* A parked child has time: it takes the faults of its first steps before it has a client.
 *
 * Theory. After a fork each stretch of text that is run and each page that is written to costs a fault. A child with
 * nothing to do asks the kernel for the text of the program and its libraries, and for its own copies of the small
 * mappings that every program writes to (data, thread block, stack). Large ones, such as an interpreter's memory, stay
 * shared: they are copied as they are written to.
 *
 * Rules of this file: a saving and nothing else. Where it cannot be done (before Linux 5.14) the child takes its faults.
 */
#ifndef FASTINETD_STAGE_WARM_H
#define FASTINETD_STAGE_WARM_H

#include "_stage_system.h"

#define WARM_READ 22                        /* MADV_POPULATE_READ */
#define WARM_WRITE 23                       /* MADV_POPULATE_WRITE */
#define WARM_TEXT_MOST (4UL << 20)          /* bytes of a mapping of text, and of one that is written to */
#define WARM_DATA_MOST (256UL << 10)
#define WARM_RANGES 64

static struct warm_range {
    unsigned long first, size;
    int advice;
} warm_ranges[WARM_RANGES];
static int warm_range_count = -1;           /* -1: not looked for yet */

static unsigned long hexadecimal(const char **text)
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

/* One line of /proc/self/maps: "FIRST-LAST RIGHTS OFFSET DEVICE INODE NAME", lower-case hexadecimal. */
static void note_range(const char *line)
{
    struct warm_range range = {hexadecimal(&line), 0, 0};
    line++;
    range.size = hexadecimal(&line) - range.first;
    line++;
    if (starts_with(line, "rw-p") && range.size <= WARM_DATA_MOST)
        range.advice = WARM_WRITE;
    else if (starts_with(line, "r-xp") && range.size <= WARM_TEXT_MOST)
        range.advice = WARM_READ;
    if (range.advice && warm_range_count < WARM_RANGES)
        warm_ranges[warm_range_count++] = range;
}

/* In the zygote, before its first child is parked. */
static void note_ranges(void)
{
    char text[512], line[80];
    size_t used = 0;
    long maps, size, at;

    if (warm_range_count >= 0)
        return;
    warm_range_count = 0;
    maps = CALL(__NR_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC);
    while (maps >= 0 && (size = CALL(__NR_read, maps, text, sizeof text)) > 0)
        for (at = 0; at < size; at++)
            if (text[at] == '\n') {
                line[used] = 0;
                note_range(line);
                used = 0;
            } else if (used < sizeof line - 1)
                line[used++] = text[at];
    if (maps >= 0)
        CALL(__NR_close, maps);
}

static void warm_up(void)
{
    int i;
    for (i = 0; i < warm_range_count; i++)
        CALL(__NR_madvise, warm_ranges[i].first, warm_ranges[i].size, warm_ranges[i].advice);
}

#endif
