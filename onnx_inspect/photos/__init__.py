"""Photos by the hundred thousand: named compactly, worked on in parallel and in order, in pieces that survive a kill."""
