"""Photos by the hundred thousand: named in little room, worked on in parallel and in order, resumed after a kill."""
