/* Writes the environment it was given, each entry with its NUL: `environ` on its connection, or `environ FILE` where
 * the socket is the listening or datagram one, which it then takes a client from.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

extern char **environ;

static int put(int fd, const char *text, size_t size)
{
    while (size) {
        ssize_t done = write(fd, text, size);
        if (done <= 0)
            return 1;
        text += done;
        size -= done;
    }
    return 0;
}

int main(int argc, char **argv)
{
    char fresh[4096], byte;
    char **each;
    int listening = 0, to = 1;
    socklen_t size = sizeof listening;

    if (argc > 1) {
        snprintf(fresh, sizeof fresh, "%s.new", argv[1]);
        to = open(fresh, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    }
    for (each = environ; *each; each++)
        if (put(to, *each, strlen(*each) + 1))
            return 1;
    if (argc > 1) {
        getsockopt(0, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
        if (listening)
            close(accept(0, NULL, NULL));
        else
            recv(0, &byte, 1, 0);
        return rename(fresh, argv[1]) != 0;
    }
    return 0;
}
