/* A small HTTP/1.1 service: a thread for each connection, which is kept alive.
 *
 *   GET  /         which version this is, of which instance, with which greeting
 *   POST /echo     the body again
 *   GET  /slow     the same as /, a third of a second later
 *   GET  /healthz  whether it is well
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "prices.h"
#include "version.h"

enum { LIMIT = 64 * 1024 };

/* What was read of a connection and not used yet. */
struct input {
    int fd;
    size_t length;
    char bytes[LIMIT + 1];
};

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value ? value : "none";
}

static int read_more(struct input *in) {
    if (in->length == LIMIT) {
        return 0;
    }
    ssize_t got;
    do {
        got = read(in->fd, in->bytes + in->length, LIMIT - in->length);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        return 0;
    }
    in->length += (size_t)got;
    in->bytes[in->length] = '\0';
    return 1;
}

static void drop(struct input *in, size_t used) {
    memmove(in->bytes, in->bytes + used, in->length - used + 1);
    in->length -= used;
}

static int write_all(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t put = send(fd, bytes, length, MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) {
            return 0;
        }
        bytes += put;
        length -= (size_t)put;
    }
    return 1;
}

static int answer(int fd, int status, const char *body, size_t length) {
    char head[160];
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 %d %s\r\ncontent-type: text/plain\r\ncontent-length: %zu\r\n\r\n", status,
                        status == 200 ? "OK" : "Not OK", length);
    return write_all(fd, head, (size_t)size) && write_all(fd, body, length);
}

static int answer_text(int fd, int status, const char *text) {
    return answer(fd, status, text, strlen(text));
}

static int greet(int fd) {
    char text[512];
    snprintf(text, sizeof text, "version %s instance %s greeting %s price %ld\n", VERSION,
             setting("WINDLASS_INSTANCE"), setting("GREETING"), price(3, 250));
    return answer_text(fd, 200, text);
}

/* The value of a header field, which ends with its line; NULL when it is not there. */
static const char *field(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, length) == 0 && line[2 + length] == ':') {
            return line + 2 + length + 1 + strspn(line + 2 + length + 1, " ");
        }
    }
    return NULL;
}

/* One request and its answer; 0 when the connection is over. */
static int serve_one(struct input *in) {
    char *end;
    while (!(end = strstr(in->bytes, "\r\n\r\n"))) {
        if (!read_more(in)) {
            return 0;
        }
    }
    *end = '\0';
    const char *said = field(in->bytes, "content-length"), *wish = field(in->bytes, "connection");
    size_t head = (size_t)(end - in->bytes) + 4, body = said ? strtoul(said, NULL, 10) : 0;
    int last = wish && strncasecmp(wish, "close", 5) == 0;
    char method[8], path[64];
    if (body > LIMIT - head || sscanf(in->bytes, "%7s %63s", method, path) != 2) {
        return 0;
    }
    while (in->length < head + body) {
        if (!read_more(in)) {
            return 0;
        }
    }
    int going;
    if (strcmp(path, "/healthz") == 0) {
        going = answer_text(in->fd, HEALTH, HEALTH == 200 ? "well\n" : "the shelves are empty\n");
    } else if (strcmp(path, "/echo") == 0 && strcmp(method, "POST") == 0) {
        going = answer(in->fd, 200, in->bytes + head, body);
    } else if (strcmp(path, "/slow") == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 333000000}, NULL);
        going = greet(in->fd);
    } else if (strcmp(path, "/") == 0) {
        going = greet(in->fd);
    } else {
        going = answer_text(in->fd, 404, "no such page\n");
    }
    drop(in, head + body);
    return going && !last;
}

static void *serve(void *argument) {
    struct input *in = calloc(1, sizeof *in);
    if (in) {
        in->fd = (int)(intptr_t)argument;
        setsockopt(in->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        while (serve_one(in)) {
        }
        free(in);
    }
    close((int)(intptr_t)argument);
    return NULL;
}

int main(void) {
    const char *port = getenv("PORT");
    if (!port) {
        fprintf(stderr, "PORT says where to listen, and is not set\n");
        return 2;
    }
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (listener < 0 || bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 512)) {
        perror("cannot listen");
        return 1;
    }
    printf("version %s listens on port %s\n", VERSION, port);
    fflush(stdout);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        pthread_t thread;
        if (fd >= 0 && pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0) {
            pthread_detach(thread);
        } else if (fd >= 0) {
            close(fd);
        }
    }
}
