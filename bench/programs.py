"""Python programs that produce no events, one kind of work each."""


def nbody():
    """Move three bodies: floats and attributes of lists."""
    bodies = [[0.0, 0.0, 0.0, 0.0, 40.0], [5.0, 0.0, 0.0, 2.8, 0.04],
              [-8.0, 0.0, 0.1, -2.2, 0.02]]
    pairs = [(a, b) for i, a in enumerate(bodies) for b in bodies[i + 1:]]
    for _ in range(600):
        for a, b in pairs:
            dx = a[0] - b[0]
            dy = a[1] - b[1]
            distance = (dx * dx + dy * dy + 1e-3) ** -1.5 * 0.01
            a[2] -= dx * b[4] * distance
            a[3] -= dy * b[4] * distance
            b[2] += dx * a[4] * distance
            b[3] += dy * a[4] * distance
        for body in bodies:
            body[0] += body[2] * 0.01
            body[1] += body[3] * 0.01
    return bodies


def fannkuch(size=6):
    """Flip pancakes: small lists, slices and integers."""
    most = 0
    order = list(range(size))
    counts = [0] * size
    i = 0
    while i < size:
        if counts[i] < i:
            j = counts[i] if i & 1 else 0
            order[i], order[j] = order[j], order[i]
            flips = 0
            stack = order[:]
            while (top := stack[0]) != 0:
                stack[:top + 1] = stack[top::-1]
                flips += 1
            most = max(most, flips)
            counts[i] += 1
            i = 0
        else:
            counts[i] = 0
            i += 1
    return most


class Task:
    """A task that hands its work round a ring."""

    def __init__(self, work):
        self.work = work
        self.next = None
        self.done = 0

    def step(self):
        """Do one piece of work, and return what is to run next."""
        self.work -= 1
        self.done += self.weight()
        return self.next

    def weight(self):
        """Return what a step counts for."""
        return 1


class HeavyTask(Task):
    """A task whose steps count twice."""

    def weight(self):
        """Return what a step counts for."""
        return 2 * super().weight()


def scheduler():
    """Run tasks in turn: methods, attributes and inheritance."""
    ring = [HeavyTask(400) if i % 3 else Task(300) for i in range(12)]
    for task, following in zip(ring, ring[1:] + ring[:1]):
        task.next = following
    task = ring[0]
    for _ in range(3000):
        task = task.step() if task.work else task.next
    return sum(task.done for task in ring)


def words():
    """Count made-up words: strings, dictionaries and sorting."""
    seed = 1
    counts = {}
    for _ in range(1500):
        seed = count_word(counts, seed)
    ranking = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return " ".join(word.upper() for word, _ in ranking if "a" not in word)


def count_word(counts, seed):
    """Make up a word, count it, and return the seed of the next one."""
    seed = (seed * 1103515245 + 12345) % 2147483648
    word = f"{seed % 97:x}-{seed // 7 % 31}"
    counts[word] = counts.get(word, 0) + 1
    return seed


def generators():
    """Chain generators: yields, exceptions and closures."""
    def numbers(limit):
        for i in range(limit):
            yield i

    def checked(source):
        for number in source:
            try:
                if number % 7 == 0:
                    raise ValueError(number)
                yield number * 2
            except ValueError as error:
                yield error.args[0]

    def total(source):
        return sum(number for number in source if number % 3)

    return total(checked(numbers(2500)))
