/* What a child's first steps need of memory is had ready, as far as that costs less than it saves.
 *
 * Theory. After a fork each stretch of text that is run and each page that is written to costs a fault. The table of
 * pages of a mapping is copied to a fork only if some page of it is private to the process: so in the zygote one byte of
 * each mapping of text is written as it is (by /proc/self/mem, which may write there). And a parked child with nothing to
 * do asks the kernel for its own copies of the small mappings that every program writes to: data, thread block, the end of
 * the stack. Large ones, such as an interpreter's memory, stay shared: they are copied as they are written to.
 *
 * Rules of this file: a saving and nothing else. Where it cannot be done the child takes its faults.
 */
#ifndef FASTINETD_STAGE_WARM_H
#define FASTINETD_STAGE_WARM_H

#include "_stage_system.h"

#define WARM_WRITE 23                       /* MADV_POPULATE_WRITE, Linux 5.14 */
#define WARM_MOST (64UL << 10)              /* bytes of a mapping that is small */
#define WARM_RANGES 64
#define PAGE 4096UL

static struct warm_range {
    unsigned long first, size;
} warm_ranges[WARM_RANGES];
static int warm_range_count;

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
static void note_range(const char *line, long memory)
{
    unsigned long first = hexadecimal(&line), last, stack = (unsigned long)&first;
    line++;
    last = hexadecimal(&line);
    line++;
    if (starts_with(line, "r-xp") && memory >= 0)
        CALL(__NR_pwrite64, memory, first, 1, first);
    if (!starts_with(line, "rw-p") || warm_range_count == WARM_RANGES)
        return;
    if (first <= stack && stack < last) {
        first = (stack & ~(PAGE - 1)) - PAGE > first ? (stack & ~(PAGE - 1)) - PAGE : first;
        last = first + 4 * PAGE < last ? first + 4 * PAGE : last;
    }
    if (last - first <= WARM_MOST)
        warm_ranges[warm_range_count++] = (struct warm_range){first, last - first};
}

/* In the zygote, before its first fork. */
static void note_ranges(void)
{
    char text[512], line[80];
    size_t used = 0;
    long memory = CALL(__NR_openat, AT_FDCWD, "/proc/self/mem", O_WRONLY | O_CLOEXEC);
    long maps = CALL(__NR_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC), size, at;

    while (maps >= 0 && (size = CALL(__NR_read, maps, text, sizeof text)) > 0)
        for (at = 0; at < size; at++)
            if (text[at] == '\n') {
                line[used] = 0;
                note_range(line, memory);
                used = 0;
            } else if (used < sizeof line - 1)
                line[used++] = text[at];
    if (maps >= 0)
        CALL(__NR_close, maps);
    if (memory >= 0)
        CALL(__NR_close, memory);
}

static void warm_up(void)
{
    int i;
    for (i = 0; i < warm_range_count; i++)
        CALL(__NR_madvise, warm_ranges[i].first, warm_ranges[i].size, WARM_WRITE);
}

#endif
