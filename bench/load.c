/* The client side: opens connections to 127.0.0.1, checks every answer, times every one.
 *
 *   load -p PORT [option...]
 *     -P N       spread over N consecutive ports         -c N       at most N at a time (32)
 *     -a N       spread over N source addresses          -s SECONDS start connections for so long (1)
 *     -q TEXT    send TEXT first                         -n N       stop after N connections
 *     -e TEXT    the answer begins with TEXT             -R N       open loop: N starts per second
 *     -b BYTES   send BYTES, expect them all back        -T SECONDS give a connection up (10)
 *     -x         expect to be refused: no bytes          -t         close normally (see below)
 *     -H N       open N, keep them until stdin ends      -j N       N processes share the clients (1)
 *
 * What is counted. A connection is right when it reaches end of file (or, with -x, a reset) having
 * received what was expected. Latencies run from connect() (in open loop: from the moment it was
 * due, so that a late start counts) to the first byte and to the end; answer_us is from connect() to
 * the first byte in open loop too: the server's part without this program's own waking up. The rate is of connections
 * that ended before the deadline; those still open then are waited for and checked, and counted in
 * "ok" only.
 *
 * TIME_WAIT. The server's side closes first and would stay in TIME_WAIT for a minute, tens of
 * thousands of them, and each later run would pay for the earlier ones. A reset sent after end of
 * file was read ends that state and reaches no program: the server has closed already. So
 * connections are closed with SO_LINGER 0, unless -t asks for the ordinary way.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

static struct {
    int port, ports, sources, at_once, refuse, linger, hold, processes;
    double seconds, pace, timeout;
    uint64_t limit, bulk;
    const char *request, *expect;
} opt = {.ports = 1, .sources = 1, .at_once = 32, .processes = 1, .linger = 1, .seconds = 1, .timeout = 10,
         .request = "", .expect = ""};

enum { CONNECT, RESET, EMPTY, WRONG, TIMEOUT, LOCAL, KINDS };
static const char *const kind_names[KINDS] = {"connect", "reset", "empty", "wrong", "timeout", "local"};

struct connection {
    int fd, listening, next_free;
    uint64_t start, opened, first, received, sent; /* times in ns of CLOCK_MONOTONIC */
};

/* Log-linear histogram: 64 steps per power of two, so a value is known to 1.6 %. */
#define STEPS 64
struct histogram {
    uint64_t count, max, cells[64 * STEPS];
};

struct results {
    struct histogram to_first, to_answer, to_end;
    uint64_t started, ok, in_time, bytes, errors[KINDS], lost;
};
static struct results own;
static struct connection *slots;
static int free_slot, in_flight, poller;
static char buffer[256 * 1024], bulk[64 * 1024];

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int cell_of(uint64_t value)
{
    if (value < STEPS)
        return (int)value;
    int power = 63 - __builtin_clzll(value);
    return (power - 5) * STEPS + (int)((value >> (power - 6)) - STEPS);
}

static void record(struct histogram *h, uint64_t value)
{
    h->count++;
    h->cells[cell_of(value)]++;
    if (value > h->max)
        h->max = value;
}

/* The value in microseconds below which this share of the records lies. */
static double quantile(const struct histogram *h, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)h->count), seen = 0;
    for (int i = 0; i < 64 * STEPS; i++) {
        seen += h->cells[i];
        if (seen > wanted || (seen && seen == h->count)) {
            double low = i < STEPS ? i : (double)((uint64_t)(STEPS + i % STEPS) << (i / STEPS - 1));
            double width = i < STEPS ? 1 : (double)(1ull << (i / STEPS - 1));
            double middle = low + width / 2;
            return (middle < (double)h->max ? middle : (double)h->max) / 1000;
        }
    }
    return 0;
}

static void fatal(const char *what)
{
    perror(what);
    exit(1);
}

static void finish(struct connection *c)
{
    close(c->fd);
    c->fd = -1;
    c->next_free = free_slot;
    free_slot = (int)(c - slots);
    in_flight--;
}

static void fail(struct connection *c, int kind)
{
    own.errors[kind]++;
    finish(c);
}

static void ended(struct connection *c, uint64_t deadline)
{
    size_t expected = strlen(opt.expect);
    if (opt.refuse ? c->received > 0 : c->received < expected || (opt.bulk && c->received != opt.bulk)) {
        fail(c, !opt.refuse && c->received == 0 ? EMPTY : WRONG);
        return;
    }
    uint64_t t = now();
    own.ok++;
    own.in_time += t <= deadline;
    own.bytes += c->received;
    record(&own.to_end, t - c->start);
    if (c->first) {
        record(&own.to_first, c->first - c->start);
        record(&own.to_answer, c->first - c->opened);
    }
    finish(c);
}

/* Send what is still owed. True when nothing is; a peer that does not listen is noticed in reading. */
static int send_rest(struct connection *c)
{
    size_t length = strlen(opt.request);
    uint64_t total = opt.bulk ? opt.bulk : length;
    while (c->sent < total) {
        uint64_t left = total - c->sent;
        const char *from = opt.bulk ? bulk : opt.request + c->sent;
        ssize_t n = send(c->fd, from, opt.bulk && left > sizeof bulk ? sizeof bulk : left, MSG_NOSIGNAL);
        if (n < 0)
            return errno != EAGAIN && errno != ENOTCONN;
        c->sent += (uint64_t)n;
    }
    if (opt.bulk)
        shutdown(c->fd, SHUT_WR);
    return 1;
}

static void ready(struct connection *c, uint32_t events, uint64_t deadline)
{
    if (!c->listening && (events & EPOLLOUT) && send_rest(c)) {
        struct epoll_event only_in = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &only_in);
        c->listening = 1;
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    for (;;) {
        ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (opt.hold && c->first && n <= 0) {
            own.lost++;
            finish(c);
            return;
        }
        if (n == 0 || (n < 0 && errno == ECONNRESET && opt.refuse)) {
            ended(c, deadline);
            return;
        }
        if (n < 0) {
            fail(c, errno == ECONNRESET || errno == EPIPE ? RESET : CONNECT);
            return;
        }
        size_t expected = strlen(opt.expect);
        if (c->received < expected) {
            size_t part = expected - c->received < (size_t)n ? expected - c->received : (size_t)n;
            if (memcmp(buffer, opt.expect + c->received, part)) {
                fail(c, WRONG);
                return;
            }
        }
        c->received += (uint64_t)n;
        if (!c->first) {
            c->first = now();
            if (opt.hold) {
                own.ok++;
                return;
            }
        }
    }
}

static void begin(uint64_t due)
{
    struct connection *c = &slots[free_slot];
    int one = 1, talks = opt.bulk || *opt.request;
    uint64_t n = own.started++;
    struct linger reset = {.l_onoff = 1};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((in_port_t)(opt.port + (int)(n % (uint64_t)opt.ports)))};
    struct epoll_event event = {.events = EPOLLIN | (talks ? EPOLLOUT : 0u), .data.ptr = c};

    free_slot = c->next_free;
    in_flight++;
    *c = (struct connection){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
                             .listening = !talks, .opened = now()};
    c->start = due ? due : c->opened;
    if (c->fd < 0)
        fatal("socket");
    if (opt.sources > 1) {
        struct sockaddr_in from = {.sin_family = AF_INET};
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(n % (uint64_t)opt.sources));
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(c->fd, (struct sockaddr *)&from, sizeof from)) {
            fail(c, LOCAL);
            return;
        }
    }
    if (opt.linger)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) {
        fail(c, errno == EADDRNOTAVAIL ? LOCAL : CONNECT);
        return;
    }
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event))
        fatal("epoll_ctl");
}

static void give_up_old(uint64_t t)
{
    for (int i = 0; i < opt.at_once; i++)
        if (slots[i].fd >= 0 && !(opt.hold && slots[i].first) &&
            t > slots[i].start + (uint64_t)(opt.timeout * 1e9))
            fail(&slots[i], TIMEOUT);
}

static void print_latency(const char *name, const struct histogram *h)
{
    printf(", \"%s\": {\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"max\": %.1f}", name,
           quantile(h, 0.5), quantile(h, 0.9), quantile(h, 0.99), (double)h->max / 1000);
}

static void report(double seconds)
{
    struct rusage usage;
    double cpu = 0;
    for (int who = RUSAGE_CHILDREN; who <= RUSAGE_SELF; who++) {
        getrusage(who, &usage);
        cpu += (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
               (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    }
    printf("{\"started\": %llu, \"ok\": %llu, \"lost\": %llu, \"errors\": {", (unsigned long long)own.started,
           (unsigned long long)own.ok, (unsigned long long)own.lost);
    for (int i = 0; i < KINDS; i++)
        printf("%s\"%s\": %llu", i ? ", " : "", kind_names[i], (unsigned long long)own.errors[i]);
    printf("}, \"seconds\": %.6f, \"rate\": %.2f, \"bytes\": %llu, \"cpu_seconds\": %.6f", seconds,
           seconds > 0 ? (double)own.in_time / seconds : 0, (unsigned long long)own.bytes, cpu);
    print_latency("first_us", &own.to_first);
    print_latency("answer_us", &own.to_answer);
    print_latency("end_us", &own.to_end);
    puts("}");
    fflush(stdout);
}

static void options(int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "p:P:a:c:s:n:R:q:e:b:xtH:T:j:")) != -1)
        switch (option) {
        case 'p': opt.port = atoi(optarg); break;
        case 'P': opt.ports = atoi(optarg); break;
        case 'a': opt.sources = atoi(optarg); break;
        case 'c': opt.at_once = atoi(optarg); break;
        case 's': opt.seconds = atof(optarg); break;
        case 'n': opt.limit = strtoull(optarg, NULL, 10); break;
        case 'R': opt.pace = atof(optarg); break;
        case 'q': opt.request = optarg; break;
        case 'e': opt.expect = optarg; break;
        case 'b': opt.bulk = strtoull(optarg, NULL, 10); break;
        case 'x': opt.refuse = 1; break;
        case 't': opt.linger = 0; break;
        case 'H': opt.hold = atoi(optarg); break;
        case 'T': opt.timeout = atof(optarg); break;
        case 'j': opt.processes = atoi(optarg); break;
        default: exit(2);
        }
    if (!opt.port || opt.ports < 1 || opt.sources < 1 || opt.at_once < 1 || optind < argc ||
        opt.processes < 1 || opt.processes > opt.at_once ||
        (opt.processes > 1 && (opt.hold || opt.limit || opt.pace > 0))) {
        fputs("usage: load -p PORT [-P ports] [-a addresses] [-c at once] [-s seconds] [-n count] [-R rate]\n"
              "            [-q request] [-e expect] [-b bytes] [-x] [-t] [-H hold] [-T timeout]\n"
              "            [-j processes, without -n, -R and -H]\n", stderr);
        exit(2);
    }
}

static void add(struct histogram *to, const struct histogram *from)
{
    to->count += from->count;
    for (int i = 0; i < 64 * STEPS; i++)
        to->cells[i] += from->cells[i];
    if (from->max > to->max)
        to->max = from->max;
}

static void add_results(const struct results *from)
{
    add(&own.to_first, &from->to_first);
    add(&own.to_answer, &from->to_answer);
    add(&own.to_end, &from->to_end);
    own.started += from->started;
    own.ok += from->ok;
    own.in_time += from->in_time;
    own.bytes += from->bytes;
    own.lost += from->lost;
    for (int i = 0; i < KINDS; i++)
        own.errors[i] += from->errors[i];
}

/* Fork the other processes, each with its share of the clients. NULL in the first process; in the others where their
 * results go. */
static struct results *divide(struct results *shared)
{
    int clients = opt.at_once;
    for (int i = 0; i < opt.processes; i++) {
        opt.at_once = (clients + i) / opt.processes;
        pid_t pid = i + 1 < opt.processes ? fork() : 1;
        if (pid < 0)
            fatal("fork");
        if (pid == 0)
            return &shared[i];
    }
    return NULL;
}

int main(int argc, char **argv)
{
    options(argc, argv);
    struct results *shared = mmap(NULL, (size_t)opt.processes * sizeof *shared, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        fatal("mmap");
    struct results *to_first_process = divide(shared);
    int opening = opt.at_once; /* in hold mode slots are as many as held, but few open at a time */
    if (opt.hold) {
        opt.at_once = opt.hold;
        opt.limit = (uint64_t)opt.hold;
    }
    if (!(slots = calloc((size_t)opt.at_once, sizeof *slots)))
        fatal("calloc");
    for (int i = 0; i < opt.at_once; i++)
        slots[i] = (struct connection){.fd = -1, .next_free = i + 1};
    poller = epoll_create1(EPOLL_CLOEXEC);

    int timer = -1;
    uint64_t due = 0, t0 = now(), t = t0, swept = t0;
    if (opt.pace > 0) {
        uint64_t gap = (uint64_t)(1e9 / opt.pace);
        struct timespec every = {.tv_sec = (time_t)(gap / 1000000000u), .tv_nsec = (long)(gap % 1000000000u)};
        timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        timerfd_settime(timer, 0, &(struct itimerspec){.it_interval = every, .it_value = every}, NULL);
        epoll_ctl(poller, EPOLL_CTL_ADD, timer, &(struct epoll_event){.events = EPOLLIN, .data.ptr = &timer});
    }
    uint64_t deadline = opt.limit ? UINT64_MAX : t0 + (uint64_t)(opt.seconds * 1e9);
    int announced = 0;

    for (;;) {
        int more = t < deadline && (!opt.limit || own.started < opt.limit);
        /* One burst is at most what is free; failures inside begin() must not turn this into a spin. */
        for (int i = 0; more && i < opt.at_once && in_flight < opt.at_once; i++) {
            if ((opt.pace > 0 && due == 0) || (opt.limit && own.started >= opt.limit))
                break;
            if (opt.hold && in_flight - (int)own.ok + (int)own.lost >= opening)
                break;
            begin(opt.pace > 0 ? t0 + (uint64_t)((double)(own.started + 1) * 1e9 / opt.pace) : 0);
            due -= due > 0;
        }
        uint64_t failed = 0;
        for (int i = 0; i < KINDS; i++)
            failed += own.errors[i];
        if (opt.hold && !announced && own.ok + failed >= opt.limit) {
            announced = 1;
            report((double)(now() - t0) / 1e9);
            fcntl(0, F_SETFL, O_NONBLOCK);
            struct epoll_event end = {.events = EPOLLIN, .data.ptr = &announced};
            if (epoll_ctl(poller, EPOLL_CTL_ADD, 0, &end))
                break; /* stdin is a file: nothing to wait for */
        }
        if (!opt.hold && !more && !in_flight)
            break;

        struct epoll_event events[256];
        int n = epoll_wait(poller, events, 256, 100), leave = 0;
        for (int i = 0; i < n; i++) {
            uint64_t ticks;
            if (events[i].data.ptr == &timer)
                due += read(timer, &ticks, sizeof ticks) == sizeof ticks ? ticks : 0;
            else if (events[i].data.ptr == &announced)
                leave |= read(0, buffer, sizeof buffer) == 0;
            else
                ready(events[i].data.ptr, events[i].events, deadline);
        }
        if (leave)
            break;
        t = now();
        if (t - swept > 100000000u) {
            give_up_old(t);
            swept = t;
        }
    }
    t = now();
    if (to_first_process) {
        *to_first_process = own;
        return 0;
    }
    for (int status; wait(&status) > 0;)
        if (status)
            return 1;
    for (int i = 0; i + 1 < opt.processes; i++)
        add_results(&shared[i]);
    report((double)((t > deadline ? deadline : t) - t0) / 1e9);
    return 0;
}
