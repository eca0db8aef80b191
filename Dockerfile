# Everything in one image: the book, its exercises and the grader, for macOS, Windows and servers.
#
#   docker build -t glassbox .
#   docker run --rm --security-opt seccomp=unconfined --security-opt systempaths=unconfined \
#       -v "$PWD/submissions:/submissions:ro" -v "$PWD/graded:/graded" glassbox \
#       lectern grade /submissions --output /graded
#
# The two options let Bubblewrap make namespaces inside the container, which is where students' code
# is isolated; the container itself gets no rights on the machine by them.
FROM python:3.11-slim-bookworm

RUN apt-get update -q \
    && apt-get install -q -y --no-install-recommends bubblewrap chromium git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /glassbox
COPY pyproject.toml constraints.txt README.md LICENSE* ./
COPY src src
RUN pip install --no-cache-dir -c constraints.txt -e ".[book,lectern,test]"
COPY . .

RUN useradd --create-home instructor && chown -R instructor /glassbox
USER instructor
CMD ["lectern", "--help"]
