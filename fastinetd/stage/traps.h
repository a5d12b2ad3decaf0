/* What makes a program's system calls and its looks at the clock traps (first_io).
 *
 * Theory. System calls are the kernel's affair (syscall user dispatch). Clocks are not: the kernel maps code into each
 * process that reads them without a system call, and the C library has its address long before this library runs. So
 * the first instructions of the three clocks there are overwritten, by a system call, which dispatch sees. The page
 * becomes the process's own by that. When the program is held they are put back, and its children read the clock at
 * full speed.
 *
 * Rules of this file: as of dispatch.h. Where the code cannot be found, clocks are not seen. Where memory that was
 * written may not be executed (a unit's MemoryDenyWriteExecute=, SELinux) nothing is trapped, for a program whose time
 * limits run out while it is held is worse than one that is held before main.
 */
#ifndef FASTINETD_STAGE_TRAPS_H
#define FASTINETD_STAGE_TRAPS_H

#include <asm/mman.h>
#include <linux/auxvec.h>
#include <linux/elf.h>
#include <linux/prctl.h>

#include "system.h"

#define VDSO_PATCH 8                /* bytes: mov $number, %eax; syscall; ret */
#define VDSO_AFTER 7                /* of these, to behind the syscall */
#define VDSO_PAGE 4096UL
#define VDSO_SYMBOLS 64             /* it has a dozen */

static const struct {
    char name[24];
    unsigned char number;
} vdso_names[] = {
    {"__vdso_clock_gettime", __NR_clock_gettime},
    {"__vdso_gettimeofday", __NR_gettimeofday},
    {"__vdso_time", __NR_time},
};
#define VDSO_CLOCKS (sizeof vdso_names / sizeof *vdso_names)

static struct vdso_clock {
    unsigned char *code;
    unsigned char before[VDSO_PATCH];
} vdso_clocks[VDSO_CLOCKS];
static unsigned vdso_clock_count;
static unsigned long vdso_first, vdso_size;

/* Whether memory that was written may be executed. */
static int may_change_code(void)
{
    const long page = CALL(__NR_mmap, 0, VDSO_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int may;

    if ((unsigned long)page > -VDSO_PAGE)
        return 0;
    *(volatile char *)page = 0;
    may = CALL(__NR_mprotect, page, VDSO_PAGE, PROT_READ | PROT_EXEC) == 0;
    CALL(__NR_munmap, page, VDSO_PAGE);
    return may;
}

/* Returns whether this kernel and processor can. */
static int trap_calls(void)
{
    return CALL(__NR_prctl, PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, stage_calls_begin,
                stage_calls_end - stage_calls_begin, 0) == 0;
}

static const char *find_vdso(void)
{
    unsigned long entries[128];
    long file = CALL(__NR_openat, AT_FDCWD, "/proc/self/auxv", O_RDONLY | O_CLOEXEC), size, at;

    if (file < 0)
        return NULL;
    size = CALL(__NR_read, file, entries, sizeof entries);
    CALL(__NR_close, file);
    for (at = 0; at + 1 < size / (long)sizeof *entries; at += 2)
        if (entries[at] == AT_SYSINFO_EHDR)
            return (const char *)entries[at + 1];
    return NULL;
}

/* The kernel lets a mapping of its own be changed as a whole only. */
static int protect_vdso(int protection)
{
    return CALL(__NR_mprotect, vdso_first, vdso_size, protection) == 0;
}

static void trap_clock(unsigned char *code, unsigned char number)
{
    const unsigned char patch[VDSO_PATCH] = {0xb8, number, 0, 0, 0, 0x0f, 0x05, 0xc3};
    struct vdso_clock *clock = vdso_clocks + vdso_clock_count++;
    int at;

    clock->code = code;
    for (at = 0; at < VDSO_PATCH; at++) {
        clock->before[at] = code[at];
        code[at] = patch[at];
    }
}

static int is_name(const char *one, const char *other)
{
    return starts_with(one, other) && one[length_of(other)] == 0;
}

static void trap_clocks(void)
{
    const char *vdso = find_vdso(), *names = NULL;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)vdso;
    const Elf64_Phdr *part, *parts;
    const Elf64_Dyn *entry;
    const Elf64_Sym *symbols = NULL, *symbol;
    unsigned wanted;

    if (!vdso)
        return;
    parts = (const Elf64_Phdr *)(vdso + header->e_phoff);
    for (part = parts; part < parts + header->e_phnum; part++)
        if (part->p_type == PT_LOAD)
            vdso_size = (part->p_vaddr + part->p_memsz + VDSO_PAGE - 1) & ~(VDSO_PAGE - 1);
        else if (part->p_type == PT_DYNAMIC)
            for (entry = (const Elf64_Dyn *)(vdso + part->p_vaddr); entry->d_tag != DT_NULL; entry++) {
                if (entry->d_tag == DT_SYMTAB)
                    symbols = (const Elf64_Sym *)(vdso + entry->d_un.d_ptr);
                if (entry->d_tag == DT_STRTAB)
                    names = vdso + entry->d_un.d_ptr;
            }
    vdso_first = (unsigned long)vdso;
    if (!symbols || names <= (const char *)symbols || !protect_vdso(PROT_READ | PROT_WRITE))
        return;
    /* The names follow the symbols: linkers put them so, and nothing else says how many there are. */
    for (symbol = symbols; symbol < symbols + VDSO_SYMBOLS && (const char *)(symbol + 1) <= names; symbol++)
        for (wanted = 0; wanted < VDSO_CLOCKS; wanted++)
            if (symbol->st_size >= VDSO_PATCH && vdso_clock_count < VDSO_CLOCKS &&
                is_name(names + symbol->st_name, vdso_names[wanted].name))
                trap_clock((unsigned char *)vdso + symbol->st_value, vdso_names[wanted].number);
    protect_vdso(PROT_READ | PROT_EXEC);
}

static void free_clocks(void)
{
    const struct vdso_clock *clock;
    int at;

    if (!vdso_clock_count || !protect_vdso(PROT_READ | PROT_WRITE))
        return;
    for (clock = vdso_clocks; clock < vdso_clocks + vdso_clock_count; clock++)
        for (at = 0; at < VDSO_PATCH; at++)
            clock->code[at] = clock->before[at];
    vdso_clock_count = 0;
    protect_vdso(PROT_READ | PROT_EXEC);
}

/* Where to begin again so that the call whose trap is at `after` is made by the program itself. To be asked before the
 * clocks are freed. */
static unsigned long beginning_of_call(unsigned long after)
{
    const struct vdso_clock *clock;
    for (clock = vdso_clocks; clock < vdso_clocks + vdso_clock_count; clock++)
        if (after == (unsigned long)clock->code + VDSO_AFTER)
            return (unsigned long)clock->code;
    return after - 2;               /* syscall, or int 0x80 */
}

#endif
