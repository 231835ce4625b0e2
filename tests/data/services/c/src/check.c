/* The end-to-end check: asks the shop at the given address for its greeting.
 *
 *   check http://127.0.0.1:7431
 */
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "version.h"

int main(int count, char **words) {
    unsigned port;
    if (count != 2 || sscanf(words[1], "http://127.0.0.1:%u", &port) != 1) {
        fprintf(stderr, "usage: check http://127.0.0.1:PORT\n");
        return 2;
    }
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&there, sizeof there)) {
        perror("cannot connect");
        return 1;
    }
    const char *ask = "GET / HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n";
    char answer[4096];
    size_t length = 0;
    ssize_t got = write(fd, ask, strlen(ask));
    while (got > 0 && length < sizeof answer - 1) {
        got = read(fd, answer + length, sizeof answer - 1 - length);
        length += got > 0 ? (size_t)got : 0;
    }
    answer[length] = '\0';
    printf("%s", answer);
    int good = strncmp(answer, "HTTP/1.1 200 ", 13) == 0 && strstr(answer, "version " VERSION " ");
    printf("%s\n", good ? "the shop greets as it should" : "the shop does not greet as version " VERSION);
    return good ? 0 : 1;
}
