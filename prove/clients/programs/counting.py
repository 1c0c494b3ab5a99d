"""counting.bas in Python, each line with the number that it has there."""

N = M = 0


def MAIN(functions, read, output):
    global N, M
    pass                            # 10
    N = 0                           # 20
    SUB()                           # 30
    for I in range(1, 4):           # 40
        if I != 2:                  # 50
            M = functions["DOUBLE"](I)      # 60
        continue                    # 70
    if M > 99:                      # 80
        print("NEVER", file=output)     # 100
        return                      # 110
    return                          # 90


def SUB():
    global N
    pass                            # 200
    N = N + 1                       # 210
    if N != 3:                      # 220
        SUB()                       # 230
    return                          # 240
